"""The life of an analysis in a worker: accept, claim, send, complete.

`requested` and `resume` both end in a claim, one commit that checks consent, plan, key, credit and
cooldown where the attempt starts: straight where nothing holds it back (`straight.py`), else step
by step (`claim.py`). Then comes the call, with no transaction open (`sending.py`); then the
completion (`completion.py`), one commit fenced by the attempt's number.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog
from sqlalchemy import Connection

from events import AnalysisRequested, Envelope, EventRefused, Operation
from events.analyses import ANALYSES_QUEUE
from events.sealing import input_info
from store import analyses, gate
from store.masterkeys import DoesNotOpen
from store.vault import AccountVault
from workers.analyses import ending, straight, turns
from workers.analyses.claim import Claimed, Given, Left, claim, claiming, looking_again
from workers.analyses.sending import send
from workers.app import App

EXPIRES_AFTER_MS = 24 * 3600 * 1000


def requested(app: App, envelope: Envelope, data: AnalysisRequested) -> None:
    """Accept a request and, where nothing holds it back, run it at once."""
    account, request_id = envelope.subject, data.request_id
    payload = open_input(app, account, data)
    given = Given.read(data.operation, payload)
    in_vain = app.shares.in_vain(account)
    with turns.place(app, account) as placed:
        with app.tracer.span("claim"):
            claimed: Claimed | Left | None = None
            if placed:
                claimed = straight.start_fresh(
                    app,
                    account,
                    given,
                    lambda vault: new_request(app, vault, envelope, data, payload),
                )
            claimed = claimed or looking_again(
                lambda: _accept(app, envelope, data, payload, given, placed=placed)
            )
        others_wait = isinstance(claimed, Claimed) and send(app, claimed, given.input)
    if claimed is Left.WAITS:
        app.shares.note_waiting(account)
        if placed and app.shares.in_vain(account) != in_vain:
            _run_held(app, account)
        elif not placed and app.shares.has_room(account):
            # The last one under way has ended meanwhile, and may not have seen this one.
            turns.wake(app, account, request_id)
    elif app.shares.were_waiting(account) or others_wait:
        _run_held(app, account)


def open_input(app: App, account: str, data: AnalysisRequested) -> bytes:
    """Open the seal of a request's input. Raises `EventRefused`."""
    info = input_info(account, data.request_id)
    return app.settings.sealing_key_ring.open(data.sealed_input, info)


def new_request(
    app: App, vault: AccountVault, envelope: Envelope, data: AnalysisRequested, payload: bytes
) -> analyses.NewRequest:
    """A request as it is first written, with its input under the vault."""
    now = app.effects.now_ms()
    # The id and the sealing differ when a request is published again, the content must not.
    content = b"\n".join(
        (data.operation.encode(), data.provider.encode(), (data.model or "").encode(), payload)
    )
    return analyses.NewRequest(
        account_id=envelope.subject,
        request_id=data.request_id,
        event_id=envelope.id,
        digest=vault.digest(content),
        operation=data.operation.value,
        provider_wanted=data.provider.value,
        model_wanted=data.model,
        input=vault.encrypt(analyses.input_purpose(data.request_id), payload),
        created_at=now,
        traceparent=app.tracer.traceparent() or envelope.traceparent,
        expires_at=_millis(data.expires_at) if data.expires_at else now + EXPIRES_AFTER_MS,
    )


def _accept(
    app: App,
    envelope: Envelope,
    data: AnalysisRequested,
    payload: bytes,
    given: Given,
    *,
    placed: bool,
) -> Claimed | Left:
    account, request_id = envelope.subject, data.request_id
    now = app.effects.now_ms()
    with claiming(app, account) as (connection, taken):
        fresh = new_request(app, app.vault.of(connection, account, now), envelope, data, payload)
        if not analyses.accept(connection, fresh):
            known = analyses.find(connection, account, request_id)
            # What is kept of a life that began before its account's deletion was known has none.
            if known is not None and known.digest and known.digest != fresh.digest:
                raise EventRefused(
                    "id_conflict",
                    f"The request id {request_id!r} was used before with other content: "
                    "give each request an id of its own.",
                )
            return Left.DONE
        if not placed:
            _hold(app, connection, account, request_id, now)
            return Left.WAITS
        return claim(app, connection, account, request_id, given, taken, now)


def resume(app: App, account: str, request_id: str) -> None:
    """Look again at a request that waits. One that does not wait any more is left alone."""
    in_vain = app.shares.in_vain(account)
    with turns.place(app, account) as placed:
        left = _resume(app, account, request_id) if placed else Left.WAITS
    if not placed:
        _keep_held(app, account, request_id)
    elif left is Left.DONE or app.shares.in_vain(account) != in_vain:
        _run_held(app, account)
    else:
        # Others may wait behind it for a provider that is free.
        with app.database.look() as connection:
            request = analyses.find(connection, account, request_id)
        if request is not None:
            _run_held(app, account, {request.provider_wanted})


def _run_held(app: App, account: str, busy: Collection[str] = ()) -> None:
    """Run what waits for room, now that there may be some; nothing that wants one of `busy`.

    The place was given back before: so what is put off by another thread from here on is either
    seen here or waked by that thread. Whoever comes here has asked for the note that a thread makes
    of what it put off, or was told by the store; else nothing waits. What is put off here may have
    been in the way of a thread that looks no more, so it is looked at again then; else it is passed
    over with all that want the same provider, and leaves the others their turn.
    """
    beside = set(busy)
    while not (app.stopping.is_set() or ANALYSES_QUEUE in app.pauses.known.queues):
        in_vain = app.shares.in_vain(account)
        left = Left.WAITS
        with turns.next_in_turn(app, account, beside) as picked:
            if picked is None:
                return
            request_id, wanted = picked
            with turns.place(app, account) as placed:
                if placed:
                    left = _resume(app, account, request_id)
        if not placed and not app.shares.has_room(account):
            return
        if placed and left is Left.WAITS and app.shares.in_vain(account) == in_vain:
            beside.add(wanted)
    # This process stops, or the queue is paused: another goes on from here.
    turns.wake_another(app, account)


def _keep_held(app: App, account: str, request_id: str) -> None:
    """Have a request that was due wait for its account's turn, where it does not yet."""
    with app.database.look() as connection:
        request = analyses.find(connection, account, request_id)
    if request is None or request.reason in analyses.TURN_WAITS:
        return
    with app.shares.transaction(account), app.database.write() as connection:
        gate.share(connection, account)
        _hold(app, connection, account, request_id, app.effects.now_ms())


def _hold(app: App, connection: Connection, account: str, request_id: str, now: int) -> None:
    request = analyses.find(connection, account, request_id, lock=True)
    if request is not None and request.state == analyses.WAITING:
        turns.hold(app, connection, request, now)


def _resume(app: App, account: str, request_id: str) -> Left:
    """Look again at a request, in a place of its account, and run it where nothing holds it back.

    `DONE` is also where it was run here.
    """
    with app.database.look() as connection:
        request = analyses.find(connection, account, request_id)
        sealed = analyses.sealed_input(connection, account, request_id)
        if request is None or request.state != analyses.WAITING or sealed is None:
            return Left.DONE
        try:
            payload = app.vault.decrypt(
                connection, account, analyses.input_purpose(request_id), sealed
            )
        except DoesNotOpen:
            payload = None
    given = None if payload is None else Given.read(Operation(request.operation), payload)

    def step_by_step() -> Claimed | Left:
        with claiming(app, account) as (connection, taken):
            if given is None:
                _end_unreadable(app, connection, account, request_id, sealed)
                return Left.DONE
            now = app.effects.now_ms()
            return claim(app, connection, account, request_id, given, taken, now)

    with _followed(app, request):
        with app.tracer.span("claim"):
            claimed: Claimed | Left | None = None
            if given is not None:
                claimed = straight.start_waiting(app, account, request_id, given)
            claimed = claimed or looking_again(step_by_step)
        if isinstance(claimed, Left):
            return claimed
        if claimed.permit.room:
            turns.wake_another(app, account)
        assert given is not None  # noqa: S101 -- what does not open is not claimed
        send(app, claimed, given.input)
    return Left.DONE


@contextmanager
def _followed(app: App, request: analyses.Request) -> Iterator[None]:
    """Name the request in each line of the log, and go on with its own trace."""
    ids = {
        "event_id": request.event_id,
        "account": request.account_id,
        "request_id": request.request_id,
    }
    told = app.tracer.caused_by(request.traceparent, "resume analysis", **ids)
    with structlog.contextvars.bound_contextvars(**ids), told:
        yield


def _end_unreadable(
    app: App, connection: Connection, account: str, request_id: str, sealed: bytes
) -> None:
    """End a request whose input does not open: its account's data key is gone."""
    if analyses.sealed_input(connection, account, request_id) != sealed:
        # It was put under another data key meanwhile.
        return
    app.instruments.vault_failures.labels(DoesNotOpen.__name__).inc()
    request = analyses.find(connection, account, request_id, lock=True)
    if request is not None and request.state == analyses.WAITING:
        ending.fail(app, connection, request, "input_unreadable", retryable=True)


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
