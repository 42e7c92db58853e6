"""The command: looks again and again, and draws."""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from workers.app import App
from workers.cli.console import AsJson, emit_json, err, open_app, out, refuse
from workers.cli.top.counted import Counted, Since, read_page
from workers.cli.top.picture import Look, described
from workers.cli.top.view import drawn
from workers.gauges import Gauges

PICTURE_WIDTH = 120
_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Show it once and exit.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60, help="Seconds between two updates.")
    ] = 2.0,
    svg: Annotated[
        Path | None, typer.Option(help="Write it once, as a picture, to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show queues, rates, providers, keys and lag, live, until Ctrl-C. Example: `byok top`.

    Without a terminal, or with --json, it is shown once. Rates come from the exporter on this
    machine and cover the time between two updates; everything else comes from broker and store, so
    it is shown even if no role is running.
    """
    with open_app() as app:
        watching = Watching(app)
        try:
            if once or as_json or svg is not None or not sys.stdout.isatty():
                _one_look(watching, interval, svg, as_json=as_json)
            else:
                _go_on(watching, interval)
        finally:
            watching.close()


class Watching:
    """Looks at the system; each look is compared with the one before."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._gauges = Gauges(app)
        self._before = Counted(app.effects.monotonic())

    def look(self) -> dict[str, Any]:
        """What there is to see now."""
        look = Look(self._gauges)
        url = self._page()
        after, counted_from = Counted(self._app.effects.monotonic()), None
        if url is not None:
            # Where the exporter is stopped, everything else is seen without it.
            with suppress(OSError):
                after, counted_from = read_page(url, self._app.effects.monotonic()), url
        since, self._before = Since(self._before, after), after
        return described(self._app, look, since, counted_from)

    def wait(self, seconds: float) -> bool:
        """Wait; whether to stop."""
        return self._app.effects.wait(seconds, self._app.stopping)

    def close(self) -> None:
        """Close the connections."""
        self._gauges.close()

    def _page(self) -> str | None:
        settings = self._app.settings
        if settings.effective_exporter_port:
            return f"http://{settings.exporter_host}:{settings.effective_exporter_port}/metrics"
        try:
            return (settings.state_dir / "exporter.url").read_text().strip()
        except OSError:
            return None


def _one_look(watching: Watching, interval: float, svg: Path | None, *, as_json: bool) -> None:
    watching.look()
    watching.wait(interval)
    told = watching.look()
    if svg is not None:
        _write_picture(told, svg)
    elif as_json:
        emit_json(told)
    else:
        out.print(drawn(told))


def _go_on(watching: Watching, interval: float) -> None:
    with Live(drawn(watching.look()), console=out, screen=True, auto_refresh=False) as live:
        while not watching.wait(interval):
            live.update(drawn(watching.look()), refresh=True)


def _write_picture(told: dict[str, Any], file: Path) -> None:
    with Path("/dev/null").open("w") as nowhere:
        canvas = Console(
            width=PICTURE_WIDTH, record=True, file=nowhere, force_terminal=True, no_color=False
        )
        canvas.print(drawn(told))
    try:
        # Without the fonts that it would load from elsewhere.
        file.write_text(_FONTS.sub("", canvas.export_svg(title="byok top")))
    except OSError as error:
        refuse(f"{file} cannot be written ({error.strerror}).")
    err.print(f"Wrote {file}.", highlight=False)
