"""`dashboards/*.json`: the dashboards as Grafana 11 reads them.

`python -m deploy.grafana.build` writes them; a test compares them. Import them in Grafana, or
provision the directory.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphGradientMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.board import Board, Kind, Panel
from deploy.grafana.boards import BOARDS

DIRECTORY = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24

_AS_IT_STANDS = (Kind.FIGURE, Kind.TABLE)


def files() -> dict[str, str]:
    """The text of each file by its name."""
    return {f"byok-{board.name}.json": _text(board) for board in BOARDS}


def _text(board: Board) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(_dashboard(board).build()) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"byok-{board.name}")
        .description(board.tells)
        .tags(["byok"])
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .link(
            dashboard.DashboardLink("BYOK")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["byok"])
            .keep_time(True)
        )
    )
    top = 0
    numbers = count(1)
    for row in board.rows:
        heading = dashboard.Row(row.title).id(next(numbers))
        made.with_row(heading.grid_pos(GridPos(h=1, w=WIDTH, x=0, y=top)))
        top += 1
        left, tallest = 0, 0
        for panel in row.panels:
            width, height = _size(panel)
            if left + width > WIDTH:
                left, top, tallest = 0, top + tallest, 0
            built = _PANELS[panel.kind](panel).id(next(numbers))
            made.with_panel(built.grid_pos(GridPos(h=height, w=width, x=left, y=top)))
            left, tallest = left + width, max(tallest, height)
        top += tallest
    return made


def _size(panel: Panel) -> tuple[int, int]:
    return {Kind.FIGURE: (6, 5), Kind.TABLE: (12, 7)}.get(panel.kind, (8, 8))


def _lines(panel: Panel) -> Any:
    made = (
        timeseries.Panel()
        .fill_opacity(10)
        .gradient_mode(GraphGradientMode.OPACITY)
        .line_width(1)
        .min(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if panel.kind is Kind.STACK:
        made.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    return _told(made, panel)


def _figure(panel: Panel) -> Any:
    return _told(stat.Panel(), panel)


def _table(panel: Panel) -> Any:
    return _told(table.Panel(), panel)


_PANELS: dict[Kind, Callable[[Panel], Any]] = {
    Kind.LINES: _lines,
    Kind.STACK: _lines,
    Kind.FIGURE: _figure,
    Kind.TABLE: _table,
}


def _told(made: Any, panel: Panel) -> Any:
    """What all kinds of panels have: the builders share these methods, and no type."""
    made.title(panel.title).description(panel.tells).unit(panel.unit.value).datasource(SOURCE)
    is_table = panel.kind is Kind.TABLE
    for number, query in enumerate(panel.queries):
        asked = (
            prometheus.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + number))
            .datasource(SOURCE)
            .format(PromQueryFormat.TABLE if is_table else PromQueryFormat.TIME_SERIES)
        )
        # A table and a figure tell how it stands; lines tell how it came to that.
        made.with_target(asked.instant() if panel.kind in _AS_IT_STANDS else asked.range())
    return made


def write() -> None:
    """Write all files, and delete those of dashboards that are gone."""
    DIRECTORY.mkdir(exist_ok=True)
    texts = files()
    for stale in DIRECTORY.glob("*.json"):
        if stale.name not in texts:
            stale.unlink()
    for name, text in texts.items():
        (DIRECTORY / name).write_text(text)


if __name__ == "__main__":
    write()
