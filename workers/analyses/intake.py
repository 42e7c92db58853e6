"""Taking in requests of accounts that have enough under way: many at once, to wait for their turn.

Each is read and opened by itself. What can be accepted is written by one transaction an account;
everything else goes the way that a message goes by itself, and so ends as it would there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from events import AnalysisRequested, Envelope, EventRefused
from store import analyses, gate
from workers.analyses import turns
from workers.analyses.inputs import read_input
from workers.analyses.run import new_request, open_input
from workers.app import App
from workers.boundary import Handlers, patiently, read_envelope, take_event
from workers.refusals import answer_claim


@dataclass(frozen=True, slots=True)
class _Opened:
    """A request that can be accepted."""

    arguments: Sequence[object] = field(repr=False)
    envelope: Envelope
    data: AnalysisRequested
    payload: bytes = field(repr=False)


def take_in(app: App, handlers: Handlers, messages: Sequence[Sequence[object]]) -> None:
    """Accept the requests that `messages` (their arguments) bring, or set them aside.

    Raises `workers.boundary.Stopping`; some may have been accepted by then, and are known when
    they come again.
    """
    by_account: dict[str, list[_Opened]] = {}
    for arguments in messages:
        opened = _open(app, arguments)
        if opened is None:
            take_event(app, handlers, arguments)
        else:
            by_account.setdefault(opened.envelope.subject, []).append(opened)
    for account, many in by_account.items():
        _accept(app, handlers, account, many)


def _open(app: App, arguments: Sequence[object]) -> _Opened | None:
    """Read a message; `None` where it brings no request that can be accepted."""
    if len(arguments) != 1 or not isinstance(arguments[0], str):
        return None
    try:
        envelope = read_envelope(app, arguments[0])
        if not isinstance(envelope.data, AnalysisRequested):
            return None
        payload = open_input(app, envelope.subject, envelope.data)
        read_input(envelope.data.operation, payload)
    except EventRefused:
        return None
    return _Opened(arguments, envelope, envelope.data, payload)


def _accept(app: App, handlers: Handlers, account: str, many: Sequence[_Opened]) -> None:
    fresh: set[str] = set()

    def accept() -> None:
        fresh.update(_write(app, account, many))

    try:
        patiently(app, accept)
    except EventRefused:
        # Something is wrong with the account, or with one of them: each finds out for itself.
        fresh.clear()
    for one in many:
        if one.data.request_id in fresh:
            # Of two with one id, the second is looked at by itself: it may say something else.
            fresh.discard(one.data.request_id)
            app.instruments.events.labels(handlers.queue, one.envelope.type, "taken").inc()
            answer_claim(app, one.envelope.replyto)
        else:
            take_event(app, handlers, one.arguments)
    turns.wake_another(app, account)


def _write(app: App, account: str, many: Sequence[_Opened]) -> set[str]:
    now = app.effects.now_ms()
    due_at = now + int(1000 * analyses.TURN_SECONDS * (1 + app.effects.jitter()))
    with app.shares.transaction(account), app.database.write() as connection:
        gate.share(connection, account)
        vault = app.vault.of(connection, account, now)
        requests = [new_request(app, vault, one.envelope, one.data, one.payload) for one in many]
        return analyses.accept_held(connection, requests, due_at)
