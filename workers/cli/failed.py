"""`byok failed`: what could not be read or was refused, and analyses that were given up."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from store import setaside
from store.setaside import SetAside
from workers.cli.console import AsJson, emit_json, open_app, out, refuse, show, table

commands = typer.Typer(no_args_is_help=True)


@commands.command("list")
def list_failed(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List messages that were set aside. Example: `byok failed list --json`."""
    with open_app() as app, app.database.read() as connection:
        items = setaside.newest(connection, limit)
    if as_json:
        for item in items:
            emit_json(_described(item))
        return
    if not items:
        out.print("Nothing is set aside.")
        return
    made = table("Set aside", "id", "when", "queue", "reason", "account", "type")
    for item in items:
        made.add_row(
            item.id,
            _iso(item.at)[:19].replace("T", " "),
            item.queue,
            item.reason,
            item.account_id or "",
            item.event_type or "",
        )
    show(made)


@commands.command("show")
def show_failed(
    item_id: Annotated[str, typer.Argument(metavar="ID", help="From `failed list`.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show why one message was set aside. Example: `byok failed show 1f0c…`.

    The message itself is not shown: it may hold what should not have been sent.
    """
    with open_app() as app, app.database.read() as connection:
        item = setaside.find(connection, item_id)
        if item is None:
            refuse(f"Nothing with the id {item_id!r} is set aside: see `byok failed list`.")
        size = len(setaside.payload(connection, app.vault, item_id))
    described = {**_described(item), "bytes": size}
    if as_json:
        emit_json(described)
        return
    made = table("Set aside", "", "")
    for name, value in described.items():
        made.add_row(name.replace("_", " "), "" if value is None else str(value))
    show(made)


def _described(item: SetAside) -> dict[str, Any]:
    return {
        "id": item.id,
        "at": _iso(item.at),
        "queue": item.queue,
        "reason": item.reason,
        "sentence": item.sentence,
        "event_id": item.event_id,
        "event_type": item.event_type,
        "account": item.account_id,
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat()
