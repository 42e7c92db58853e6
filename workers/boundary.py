"""The boundary between a message and the code that acts on it.

A message ends in one of three ways: it was acted on, it was set aside with its reason, or the
worker stops and the message stays with the broker. Nothing else may happen to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from events import Envelope, EventData, EventRefused, read_event
from store.engine import is_unavailable
from workers.app import App
from workers.effects import moment
from workers.lease import LeaseLost
from workers.refusals import answer_claim, set_aside

log = structlog.get_logger(__name__)

Handler = Callable[[App, Envelope, Any], None]
"""Acts on an event: the app, the envelope, and its data, already of the type it is paired with."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Stopping(RuntimeError):
    """The worker stops before the message could be acted on; it stays with the broker."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """Which function acts on which event of one queue."""

    queue: str
    by_type: Mapping[type[EventData], Handler]


def take_event(app: App, handlers: Handlers, raw: object) -> None:
    """Read one event and act on it, or set it aside."""
    try:
        envelope = _act_on(app, handlers, raw)
    except EventRefused as error:
        refused = error
    else:
        app.instruments.events.labels(handlers.queue, envelope.type, "taken").inc()
        answer_claim(app, envelope.replyto)
        return
    patiently(app, lambda: set_aside(app, handlers.queue, raw, refused))


def _act_on(app: App, handlers: Handlers, raw: object) -> Envelope:
    if not isinstance(raw, str):
        raise EventRefused("not_json", "The message's argument is not an event in JSON.")
    envelope = read_event(raw, app.sources, moment(app.effects))
    handler = handlers.by_type.get(type(envelope.data))
    if handler is None:
        raise EventRefused(
            "wrong_queue", f"{envelope.type} does not belong on the queue {handlers.queue!r}."
        )
    patiently(app, lambda: handler(app, envelope, envelope.data))
    return envelope


def take(app: App, queue: str, what: str, act: Callable[[], None]) -> None:
    """Act on an inside message, one that only says "look at this"."""
    try:
        patiently(app, act)
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
            pass
        except Exception as error:  # noqa: BLE001 -- nothing else may happen to a message
            if not is_unavailable(error):
                # Its text may hold what the message held: only its kind is told.
                log.error("internal_error", error=type(error).__name__, where=_where(error))
                raise EventRefused(
                    "internal_error",
                    f"An unexpected {type(error).__name__} at {_where(error)}: see the log of the "
                    "worker, mend it, and retry the message.",
                ) from None
            log.warning("database_unavailable", error=type(error).__name__)
        else:
            return
        if app.effects.wait(pause, app.stopping):
            raise Stopping
        pause = min(2 * pause, LONGEST_PAUSE)


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
