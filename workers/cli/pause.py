"""`byok pause`, `byok resume`, `byok paused`: stopping a part for a while, and who did."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from events import Provider
from events.accounts import ACCOUNTS_QUEUE
from events.keys import KEYS_QUEUE
from events.redaction import redact
from store import pauses, waiting
from workers.app import App
from workers.cli.account import require_account
from workers.cli.console import AsJson, emit_json, open_app, out, refuse, show, table
from workers.queues import ALL_QUEUES

LONGEST_NOTE = 500
LOG_SHOWN = 50


class Kind(StrEnum):
    """What can be paused."""

    PROVIDER = pauses.PROVIDER
    ACCOUNT = pauses.ACCOUNT
    QUEUE = pauses.QUEUE


KindArgument = Annotated[Kind, typer.Argument(help="provider, account or queue.")]
NameArgument = Annotated[str, typer.Argument(help="Its name.")]
Note = Annotated[str, typer.Option(help="The reason, for others to read.")]


def pause(
    kind: KindArgument, name: NameArgument, *, note: Note = "", as_json: AsJson = False
) -> None:
    """Pause a provider, an account or a queue until it is resumed.

    Example: `byok pause provider openai --note "their incident"`. Within a second, no worker calls
    a paused provider or takes from a paused queue. Nothing is lost: requests wait, and expire at
    their usual time.
    """
    _change(kind, name, note, pausing=True, as_json=as_json)


def resume(
    kind: KindArgument, name: NameArgument, *, note: Note = "", as_json: AsJson = False
) -> None:
    """Resume what was paused. Example: `byok resume provider openai`.

    Waiting requests resume gradually: 20 a second at first, twice as many every ten seconds.
    """
    _change(kind, name, note, pausing=False, as_json=as_json)


def paused(*, as_json: AsJson = False) -> None:
    """Show what is paused, by whom, and how much is waiting. Example: `byok paused --json`."""
    with open_app() as app:
        described = described_pauses(app)
        with app.database.read() as connection:
            actions = pauses.log(connection, LOG_SHOWN)
    log = [
        {
            "at": _iso(action.at),
            "by": action.source,
            "action": action.action,
            "kind": action.kind,
            "name": action.name,
            "note": action.note,
        }
        for action in actions
    ]
    if as_json:
        emit_json({"paused": described, "log": log})
        return
    if not described:
        out.print("Nothing is paused.")
    else:
        made = table("Paused", "what", "name", "since", "by", "note", ">requests wait")
        for one in described:
            made.add_row(
                one["kind"],
                one["name"],
                _short(one["since"]),
                one["by"],
                one["note"],
                f"{one['requests_waiting']:,}",
            )
        show(made)
    if log:
        made = table("Log", "when", "by", "did", "what", "name", "note")
        for entry in log:
            made.add_row(_short(entry["at"]), *(entry[name] for name in _LOGGED))
        show(made)


_LOGGED = ("by", "action", "kind", "name", "note")


def described_pauses(app: App) -> list[dict[str, Any]]:
    """What is paused, as `byok paused --json` tells it."""
    with app.database.read() as connection:
        standing = pauses.standing(connection)
        held = pauses.held_back(connection) if standing else {}
    return [
        {
            "kind": one.kind,
            "name": one.name,
            "since": _iso(one.at),
            "by": one.source,
            "note": one.note,
            "requests_waiting": held.get((one.kind, one.name), 0),
        }
        for one in standing
        if one.resumed_at is None
    ]


def change(app: App, kind: Kind, name: str, note: str, *, pausing: bool) -> tuple[bool, int]:
    """Pause something or resume it; whether that changed anything, and how many requests wait."""
    made = pauses.Pause(
        kind=kind.value,
        name=name,
        at=app.effects.now_ms(),
        source=app.settings.operator_source,
        note=redact(note),
        resumed_at=None,
    )
    action_id = app.effects.new_id()
    with app.database.write() as connection:
        if pausing:
            changed = pauses.pause(connection, made, action_id)
        else:
            changed = pauses.resume(connection, made, action_id)
            if changed and kind is Kind.QUEUE and name in (ACCOUNTS_QUEUE, KEYS_QUEUE):
                waiting.prolong(connection, made.at)
        return changed, pauses.held_back(connection).get((kind.value, name), 0)


def _change(kind: Kind, name: str, note: str, *, pausing: bool, as_json: bool) -> None:
    if len(note) > LONGEST_NOTE:
        raise typer.BadParameter(f"--note takes at most {LONGEST_NOTE} characters.")
    with open_app() as app:
        _require(app, kind, name)
        changed, waits = change(app, kind, name, note, pausing=pausing)
        by = app.settings.operator_source
    if not pausing and not changed:
        refuse(f"The {kind.value} {name!r} is not paused: see `byok paused`.")
    if as_json:
        emit_json(
            {
                "kind": kind.value,
                "name": name,
                "paused": pausing,
                "changed": changed,
                "by": by,
                "requests_waiting": waits,
            }
        )
        return
    out.print(_told(kind, name, waits, pausing=pausing, changed=changed), highlight=False)


def _told(kind: Kind, name: str, waits: int, *, pausing: bool, changed: bool) -> str:
    if not changed:
        return f"The {kind.value} {name} was paused already."
    if pausing:
        return f"The {kind.value} {name} is paused: `byok resume {kind.value} {name}` ends it."
    told = f"The {kind.value} {name} goes on."
    return f"{told} {waits:,} requests come back bit by bit." if waits else told


def _require(app: App, kind: Kind, name: str) -> None:
    if kind is Kind.ACCOUNT:
        require_account(app, name)
        return
    known = tuple(Provider) if kind is Kind.PROVIDER else ALL_QUEUES
    if name not in known:
        raise typer.BadParameter(f"there is no {kind.value} of that name: {', '.join(known)}.")


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat()


def _short(moment: str) -> str:
    return moment[:19].replace("T", " ")
