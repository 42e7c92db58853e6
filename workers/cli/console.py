"""How commands speak: what was asked for on stdout, everything else on stderr."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from store import migrate
from workers import logs
from workers.app import App
from workers.cli.guard import Refusal
from workers.settings import Settings

_PIPE_WIDTH = 120
"""Columns of a table that does not go to a terminal, whose width would be taken as 80."""

out = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="How long to wait, in seconds.")]
StopOnEof = Annotated[
    bool,
    typer.Option("--stop-on-stdin-eof", help="Stop when standard input ends.", hidden=True),
]


def refuse(sentence: str) -> NoReturn:
    """End the command with one sentence and exit code 1."""
    raise Refusal(sentence)


def emit_json(value: Any) -> None:
    """Print one JSON object on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def show(table: Table) -> None:
    """Print a table."""
    out.print(table)


def table(title: str, *columns: str) -> Table:
    """An empty table; a column that starts with `>` is aligned to the right."""
    made = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        min_width=64,
        show_header=any(column.lstrip(">") for column in columns),
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(
            column.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return made


@contextmanager
def open_app(role: str = "cli", *, need_store: bool = True) -> Iterator[App]:
    """The app for one command; with `need_store` the database must have its schema."""
    settings = Settings.load()
    logs.set_up(settings.log_level if role != "cli" else "warning")
    app = App(settings, role=role)
    try:
        if need_store:
            _require_schema(app)
        yield app
    finally:
        app.close()


def wait_for(app: App, what: str, timeout: float, done: Callable[[], bool]) -> None:
    """Wait until `done`. Refuses where it takes longer than `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.01
    while not done():
        if time.monotonic() >= deadline:
            refuse(
                f"Gave up after {timeout:g} s waiting for {what}: is a worker running "
                "(`byok up`)? It goes on without this command."
            )
        if app.effects.wait(pause, app.stopping):
            raise KeyboardInterrupt
        pause = min(pause * 1.5, 0.25)


def _require_schema(app: App) -> None:
    settings = app.settings
    database = settings.state_dir / "byok.sqlite3"
    if settings.database_url is None and not database.exists():
        refuse(f"There is no store under {settings.state_dir} yet: start `byok up` first.")
    if migrate.missing(app.database):
        refuse("The database has an older schema than this version: run `byok db upgrade`.")
