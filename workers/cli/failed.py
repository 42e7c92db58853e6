"""`byok failed`: what could not be read or was refused, and analyses that were given up."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from events import EventRefused
from store import setaside
from store.setaside import SetAside
from workers.app import App
from workers.cli.console import AsJson, emit_json, open_app, out, refuse, show, table

commands = typer.Typer(no_args_is_help=True, help="Messages that were set aside.")

MOST = 1_000_000
"""How many messages `--all` takes in one go."""


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

    The message itself is not shown, because it may contain something that should not have been
    sent.
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


@commands.command()
def retry(
    item_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All messages that are set aside.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send messages that were set aside again. Example: `byok failed retry --all`.

    A message that is refused again is set aside again; doing this twice is safe. With `--all`, a
    message that cannot be sent stays, and the others are sent.
    """
    left = 0
    with open_app() as app:
        sent = 0
        for item in _chosen(app, item_ids, every=every):
            with app.database.read() as connection:
                copied = setaside.copy(connection, app.vault, item.id)
            if copied is None:
                # Another has retried or dropped it meanwhile.
                continue
            try:
                app.publisher.resend(item.queue, copied.payload)
            except EventRefused:
                if not every:
                    raise
                left += 1
                continue
            # After it is on the queue: a crash in between sends it twice, which does no harm. A
            # worker may have set it aside again by now; then it stays.
            with app.database.write() as connection:
                setaside.remove_copied(connection, item.id, copied)
            sent += 1
        _tell(sent, "retried", as_json=as_json)
    if left:
        refuse(f"{left} are neither an event nor a message, and stay: drop them by their ids.")


@commands.command()
def drop(
    item_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All messages that are set aside.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete messages that were set aside. Example: `byok failed drop 1f0c…`."""
    with open_app() as app:
        dropped = 0
        for item in _chosen(app, item_ids, every=every):
            with app.database.write() as connection:
                dropped += setaside.remove(connection, item.id)
        _tell(dropped, "dropped", as_json=as_json)


def _chosen(app: App, item_ids: list[str] | None, *, every: bool) -> list[SetAside]:
    if every == bool(item_ids):
        refuse("Name the messages by their ids, or give --all.")
    with app.database.read() as connection:
        if every:
            return setaside.newest(connection, MOST)
        found = {item_id: setaside.find(connection, item_id) for item_id in item_ids or ()}
    for item_id, item in found.items():
        if item is None:
            refuse(f"Nothing with the id {item_id!r} is set aside: see `byok failed list`.")
    return [item for item in found.values() if item is not None]


def _tell(count: int, what: str, *, as_json: bool) -> None:
    if as_json:
        emit_json({what: count})
    else:
        out.print(f"{count} {what}.", highlight=False)


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
