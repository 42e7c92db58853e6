"""`byok events`: the out-event stream, as subscribers see it."""

import json
from typing import Annotated, Any

import typer

from events.registry import OUTGOING
from events.stream import EVENT_FIELD, STREAM
from workers.cli.console import AsJson, emit_json, open_app, out
from workers.supervisor import stop_on_signals

BATCH = 500
BLOCK_MS = 500


def events(
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for new events.")] = False,
    kind: Annotated[
        str | None, typer.Option("--type", help="Only this type: key.status_changed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the out-events that the stream holds. Example: `byok events --follow --json`."""
    types = sorted(name.removeprefix("byok.").removesuffix(".v1") for name in OUTGOING)
    if kind is not None and kind not in types:
        raise typer.BadParameter(f"--type takes one of {', '.join(types)}.")
    with open_app() as app:
        stop_on_signals(app.stopping, stdin=False)
        after: bytes | str = "0"
        while not app.stopping.is_set():
            found: Any = app.stream.xread({STREAM: after}, count=BATCH, block=BLOCK_MS)
            entries = _entries(found)
            for entry_id, fields in entries:
                after = entry_id
                _show(json.loads(fields[EVENT_FIELD.encode()]), kind, as_json=as_json)
            if not entries and not follow:
                return


def _entries(found: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # redis-py answers in one form for RESP 2 and in another for RESP 3.
    if isinstance(found, dict):
        return [entry for batches in found.values() for batch in batches for entry in batch]
    return [entry for _, entries in found or () for entry in entries]


def _show(event: dict[str, Any], kind: str | None, *, as_json: bool) -> None:
    if kind is not None and event["type"] != f"byok.{kind}.v1":
        return
    if as_json:
        emit_json(event)
        return
    said = ", ".join(
        f"{name}={value}"
        for name, value in event["data"].items()
        if not isinstance(value, dict | list)
    )
    out.print(
        f"{event['time'][:19]}  {event['subject']}  {event['type']}  {said}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
