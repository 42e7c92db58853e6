"""The boundary between a message and the code that acts on it.

A message ends in one of three ways: it was acted on, it was set aside with its reason, or it stays
with the broker because the worker stops or its queue is paused. Nothing else may happen to it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from events import AccountDeleted, Envelope, EventData, EventRefused, KeyRemoved, read_event
from store.engine import is_unavailable
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable
from workers.app import SOURCE, App
from workers.broker import PutBack
from workers.effects import moment
from workers.lease import LeaseLost
from workers.refusals import answer_claim, set_aside

log = structlog.get_logger(__name__)

T = TypeVar("T")

Handler = Callable[[App, Envelope, Any], None]
"""Acts on an event: the app, the envelope, and its data, already of the type it is paired with."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
DRAIN_SECONDS = 90.0
"""How long a stopping worker goes on for what is under way: longer than the longest call."""


class Stopping(PutBack):
    """The worker stops before the message could be acted on; it stays with the broker."""


class QueuePaused(PutBack):
    """The message's queue was paused after it was fetched."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """Which function acts on which event of one queue."""

    queue: str
    by_type: Mapping[type[EventData], Handler]


def take_event(app: App, handlers: Handlers, arguments: Sequence[object]) -> None:
    """Read one event and act on it, or set it aside.

    Returns when one of the two is in the store; where setting aside fails, it is tried again for
    as long as the worker runs, since the message is nowhere else.
    """
    _refuse_paused(app, handlers.queue)
    raw = arguments[0] if len(arguments) == 1 else list(arguments)
    try:
        envelope = _act_on(app, handlers, raw)
    except EventRefused as error:
        refused = error
    else:
        app.instruments.events.labels(handlers.queue, envelope.type, "taken").inc()
        answer_claim(app, envelope.replyto)
        return
    put_aside(app, handlers.queue, raw, refused)


def _refuse_paused(app: App, queue: str) -> None:
    if queue in app.pauses.known.queues:
        raise QueuePaused


def put_aside(app: App, queue: str, raw: object, refused: EventRefused) -> None:
    """Set a message aside, trying until it is done. Raises `Stopping` when the worker stops."""
    while True:
        try:
            patiently(app, lambda: set_aside(app, queue, raw, refused))
        except EventRefused:
            # Not even that can be written; the wrong master keys would do it.
            with app.lanes.resting():
                stops = app.effects.wait(LONGEST_PAUSE, app.stopping)
            if stops:
                raise Stopping from None
        else:
            return


def _act_on(app: App, handlers: Handlers, raw: object) -> Envelope:
    if not isinstance(raw, str):
        raise EventRefused("not_json", "The message's argument is not an event in JSON.")
    envelope = read_envelope(app, raw)
    handler = handlers.by_type.get(type(envelope.data))
    if handler is None:
        raise EventRefused(
            "wrong_queue", f"{envelope.type} does not belong on the queue {handlers.queue!r}."
        )
    with _followed(app, handlers.queue, envelope):
        patiently(app, lambda: handler(app, envelope, envelope.data))
    return envelope


@contextmanager
def _followed(app: App, queue: str, envelope: Envelope) -> Iterator[None]:
    """Name the event in each line of the log and in the trace, for as long as it is acted on."""
    ids = {"event_id": envelope.id, "account": envelope.subject}
    request_id = getattr(envelope.data, "request_id", None)
    if request_id is not None:
        ids["request_id"] = request_id
    told = app.tracer.caused_by(envelope.traceparent, f"process {queue}", **ids)
    with structlog.contextvars.bound_contextvars(**ids), told:
        yield


def read_envelope(app: App, raw: str) -> Envelope:
    """Read an event, signature and all. Raises `EventRefused`."""
    try:
        envelope = read_event(raw, app.sources, moment(app.effects))
    except EventRefused:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever a sender can think of
        log.warning("event_unreadable", error=type(error).__name__, where=_where(error))
        raise EventRefused(
            "invalid_event", "The event cannot be read: see the event reference."
        ) from None
    _refuse_from_before(app, envelope)
    return envelope


def _refuse_from_before(app: App, envelope: Envelope) -> None:
    """Refuse an event of upstream's that is older than the database's restoration.

    What it brings may have been done already, and undone since. What takes something away is
    never wrong. Raises `EventRefused`.
    """
    if app.restored_at is None or envelope.source == SOURCE:
        return
    if isinstance(envelope.data, KeyRemoved | AccountDeleted):
        return
    if envelope.time < datetime.fromtimestamp(app.restored_at / 1000, tz=UTC):
        raise EventRefused(
            "before_restore",
            "The event is older than the database's restoration from a backup and may have been "
            "acted on before: publish what is true now as a new event.",
        )


def take(
    app: App, queue: str, what: str, arguments: Sequence[Any], act: Callable[..., None]
) -> None:
    """Act on an inside message, one that only says "look at this".

    `act` is called with the app and the message's arguments, which are ids. What it refuses or
    cannot do is logged; the sweep that sent the message finds the matter again.
    """
    _refuse_paused(app, queue)
    try:
        if not all(isinstance(argument, str) for argument in arguments):
            raise EventRefused("not_a_message", "An inside message's arguments are ids.")
        with structlog.contextvars.bound_contextvars(message=what, about="/".join(arguments)):
            patiently(app, lambda: act(app, *arguments))
        app.instruments.events.labels(queue, what, "taken").inc()
    except EventRefused as refused:
        app.instruments.events.labels(queue, what, "refused").inc()
        log.error("inside_message_refused", what=what, reason=refused.reason)


def patiently(app: App, act: Callable[[], None]) -> None:
    """Run `act`; while the database is away or the lease is lost, wait and run it again.

    The message stays taken meanwhile, so nothing else is fetched in its place. Raises
    `EventRefused` (`internal_error`) for what no waiting mends, `Stopping` when the worker stops.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            act()
        except (EventRefused, Stopping):
            raise
        except LeaseLost:
            app.instruments.outages.labels("lease").inc()
        except Exception as error:  # noqa: BLE001 -- nothing else may happen to a message
            if not is_unavailable(error):
                raise _internal(app, error) from None
            _warn_of_outage(app, error)
        else:
            return
        with app.lanes.resting():
            stops = app.effects.wait(pause, app.stopping)
        if stops:
            raise Stopping
        pause = min(2 * pause, LONGEST_PAUSE)


def persistently(app: App, act: Callable[[], T]) -> T:
    """Run `act`, which writes down what cannot be had again, until it has run; what it returns.

    While the database is away it is run again, also when the worker is to stop: what was paid
    for is not thrown away, unless that takes longer than `DRAIN_SECONDS` from there. Raises
    `Stopping` then, and `EventRefused` (`internal_error`) for what no waiting mends.
    """
    pause = FIRST_PAUSE
    never = threading.Event()
    give_up: float | None = None
    while True:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 -- as in `patiently`
            if not is_unavailable(error):
                raise _internal(app, error) from None
            _warn_of_outage(app, error)
        now = app.effects.monotonic()
        if app.stopping.is_set():
            give_up = give_up if give_up is not None else now + DRAIN_SECONDS
            if now >= give_up:
                raise Stopping
        with app.lanes.resting():
            app.effects.wait(pause, never)
        pause = min(2 * pause, LONGEST_PAUSE)


def _warn_of_outage(app: App, error: Exception) -> None:
    if isinstance(error, MasterKeyUnavailable):
        app.instruments.outages.labels("master_key").inc()
        log.warning("master_key_unavailable", sentence=str(error))
    else:
        app.instruments.outages.labels("database").inc()
        log.warning("database_unavailable", error=type(error).__name__)


def _internal(app: App, error: Exception) -> EventRefused:
    if isinstance(error, DoesNotOpen | MasterKeyMissing):
        kind = type(error).__name__
        app.instruments.vault_failures.labels(kind).inc()
        log.error("stored_value_does_not_open", error=kind, where=_where(error))
        return EventRefused(
            "vault_unreadable",
            f"What is stored for the account does not open ({kind}): restore its row in data_keys "
            "or give the worker its master key, then retry the message.",
        )
    # The error's text may hold what the message held: only its kind and place are told.
    log.error("internal_error", error=type(error).__name__, where=_where(error))
    return EventRefused(
        "internal_error",
        f"An unexpected {type(error).__name__} at {_where(error)}: see the log of the worker, "
        "mend it, and retry the message.",
    )


def _where(error: BaseException) -> str:
    """The place in our own code that raised: module and line, no values."""
    place = "unknown"
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in ("workers", "store", "events", "metrics"):
            place = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
