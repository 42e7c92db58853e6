"""How commands speak: what was asked for on stdout, everything else on stderr."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import redis
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from events import BrokerAway, EventRefused, NotClaimed, Refused
from events.redaction import redact
from store import migrate
from store.engine import is_unavailable
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable
from workers import logs
from workers.app import App
from workers.settings import ConfigurationError, Settings
from workers.supervisor import StartFailed

_PIPE_WIDTH = 120
"""Columns of a table that does not go to a terminal, whose width would be taken as 80."""

out = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="How long to wait, in seconds.")]
StopOnEof = Annotated[
    bool,
    typer.Option("--stop-on-stdin-eof", help="Stop when standard input ends.", hidden=True),
]


class Refusal(Exception):
    """A command cannot do what it was asked. The message is one sentence; exit code 1."""


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


def guard(command: Callable[[], Any]) -> int:
    """Run a command; turn what can go wrong outside into one sentence. The exit code."""
    try:
        command()
    except Refusal as refusal:
        sentence = str(refusal)
    except (
        ConfigurationError,
        EventRefused,
        StartFailed,
        BrokerAway,
        NotClaimed,
        Refused,
        DoesNotOpen,
        MasterKeyMissing,
        MasterKeyUnavailable,
    ) as error:
        sentence = str(error)
    except (redis.ConnectionError, redis.TimeoutError):
        sentence = "Redis cannot be reached: start `byok up`, or check BYOK_REDIS_URL."
    except SQLAlchemyError as error:
        if not is_unavailable(error):
            raise
        sentence = "The database cannot be reached or is busy: check BYOK_DATABASE_URL."
    except KeyboardInterrupt:
        sentence = "Stopped."
    except BrokenPipeError:
        # The reader of our output has what it wants. Nothing more may be written to it.
        sys.stdout = sys.stderr
        return 1
    else:
        return 0
    err.print(f"[red]{'byok:'}[/red] {redact(sentence)}", highlight=False, soft_wrap=True)
    return 1


def _require_schema(app: App) -> None:
    settings = app.settings
    database = settings.state_dir / "byok.sqlite3"
    if settings.database_url is None and not database.exists():
        refuse(f"There is no store under {settings.state_dir} yet: start `byok up` first.")
    if migrate.missing(app.database):
        refuse("The database has an older schema than this version: run `byok db upgrade`.")
