"""The dashboards as pictures, drawn from what a running Prometheus has: for those without Grafana.

`python -m deploy.grafana.pictures http://127.0.0.1:9090 DIRECTORY [--minutes 60]` draws one PNG a
dashboard. It needs the extra `pictures`.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from deploy.grafana.board import RATE, Board, Kind, Panel, Query, Unit
from deploy.grafana.boards import BOARDS

COLUMNS = 3
POINTS = 300
LONGEST_LEGEND = 8
LONGEST_TABLE = 12
TIMEOUT_SECONDS = 30

Series = tuple[str, list[tuple[float, float]]]
"""A legend, and points of (Unix s, value)."""


class Drawing:
    """Draws dashboards from `url`, a Prometheus' address, between two moments (Unix s).

    `window` stands for Grafana's rate interval: four scrapes.
    """

    def __init__(self, url: str, begin: float, end: float, window: str = "1m") -> None:
        self._url = url
        self._begin = begin
        self._end = end
        self._window = window

    def draw(self, board: Board, path: Path) -> None:
        """Draw one dashboard into a PNG. Raises `ImportError` without matplotlib."""
        from matplotlib.figure import Figure  # noqa: PLC0415 -- an extra

        panels = board.panels
        rows = math.ceil(len(panels) / COLUMNS)
        figure = Figure(figsize=(6 * COLUMNS, 3 * rows), layout="constrained")
        figure.suptitle(board.title, fontsize=16)
        places = figure.subplots(rows, COLUMNS, squeeze=False).flat
        for axes in list(places)[len(panels) :]:
            axes.set_axis_off()
        for panel, axes in zip(panels, figure.axes, strict=False):
            axes.set_title(panel.title, fontsize=10, loc="left")
            self._panel(panel, axes)
        figure.savefig(path, dpi=80)

    def _panel(self, panel: Panel, axes: Any) -> None:
        series = [one for query in panel.queries for one in self._series(query)]
        if panel.kind in (Kind.FIGURE, Kind.TABLE):
            axes.set_axis_off()
            told = [_row(panel, *one) for one in series[:LONGEST_TABLE]]
            size = 14 if panel.kind is Kind.FIGURE else 7
            axes.text(0, 0.95, "\n".join(told), va="top", fontsize=size, transform=axes.transAxes)
            return
        if panel.kind is Kind.STACK and series:
            moments = sorted({at for _, points in series for at, _ in points})
            heights = [[dict(points).get(at, 0.0) for at in moments] for _, points in series]
            shown = [at - self._begin for at in moments]
            axes.stackplot(shown, *heights, labels=[name for name, _ in series], alpha=0.7)
        else:
            for name, points in series:
                axes.plot(
                    [at - self._begin for at, _ in points],
                    [value for _, value in points],
                    label=name,
                    linewidth=1,
                )
        axes.set_ylim(bottom=0)
        axes.set_ylabel(panel.unit.value, fontsize=7)
        axes.tick_params(labelsize=7)
        axes.grid(visible=True, alpha=0.3)
        if series:
            handles, names = axes.get_legend_handles_labels()
            axes.legend(handles[:LONGEST_LEGEND], names[:LONGEST_LEGEND], fontsize=6, loc="best")

    def _series(self, query: Query) -> list[Series]:
        asked = urlencode(
            {
                "query": query.expr.replace(RATE, self._window),
                "start": self._begin,
                "end": self._end,
                "step": max(1.0, (self._end - self._begin) / POINTS),
            }
        )
        with urlopen(f"{self._url}/api/v1/query_range?{asked}", timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 -- an operator names it
            found = json.loads(answer.read())["data"]["result"]
        return [(_legend(query, one["metric"]), _points(one["values"])) for one in found]


def _points(values: list[tuple[float, str]]) -> list[tuple[float, float]]:
    read = [(float(at), float(value)) for at, value in values]
    return [(at, value) for at, value in read if math.isfinite(value)]


def _legend(query: Query, labels: dict[str, str]) -> str:
    if not query.legend:
        return " ".join(f"{k}={v}" for k, v in sorted(labels.items()) if not k.startswith("__"))
    legend = query.legend
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


def _row(panel: Panel, name: str, points: list[tuple[float, float]]) -> str:
    if panel.kind is Kind.TABLE or not points:
        return name
    last = points[-1][1]
    if panel.unit is Unit.YES_NO:
        return f"{name}: {'yes' if last else 'no'}"
    return f"{name}: {'$' if panel.unit is Unit.DOLLARS else ''}{last:,.4g}"


def main() -> None:
    """Draw all dashboards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    now = time.time()
    drawing = Drawing(given.url, now - 60 * given.minutes, now)
    for board in BOARDS:
        drawing.draw(board, given.directory / f"byok-{board.name}.png")


if __name__ == "__main__":
    main()
