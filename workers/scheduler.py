"""The scheduler: looks for what is due and sends it on its way. Two at once do no harm.

Each sweep reads first and only writes where it found something, so that an idle scheduler takes
no lock. What a sweep takes is put off rather than deleted: if the message it sends is lost, the
next sweep finds it again.
"""

from collections.abc import Callable

import redis
import structlog

from events import BrokerAway
from events.analyses import ANALYSES_QUEUE
from events.broker import actor_of
from store import analyses, cooldowns, keys, leases, waiting
from store.engine import is_unavailable
from workers.analyses import ending
from workers.analyses.actors import RESUME_ACTOR
from workers.analyses.retry import LOST_WORKERS_ALLOWED
from workers.app import App
from workers.keys.validation import VALIDATE_ACTOR, VALIDATIONS_QUEUE
from workers.relay import relay_events, relay_usage, rewrite_queue_file
from workers.settings import UnknownAttempts

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.1
BATCH = 500
OUTAGE_PAUSE_SECONDS = 1.0

HELD = "unknown_attempt_held"
"""Why a request waits whose call was lost and which is not to be run again by itself."""

Sweep = Callable[[App], int]


def run(app: App) -> None:
    """Sweep until the app is stopping."""
    app.lease.start()
    try:
        while not app.stopping.is_set():
            found = sum(_sweep(app, sweep) for sweep in SWEEPS)
            if not found:
                app.effects.wait(TICK_SECONDS, app.stopping)
    finally:
        app.lease.release()


def _sweep(app: App, sweep: Sweep) -> int:
    try:
        return sweep(app)
    except (BrokerAway, redis.ConnectionError, redis.TimeoutError) as error:
        log.warning("sweep_waits_for_broker", sweep=sweep.__name__, error=type(error).__name__)
    except Exception as error:
        if not is_unavailable(error):
            raise
        log.warning("sweep_waits_for_database", sweep=sweep.__name__, error=type(error).__name__)
    app.effects.wait(OUTAGE_PAUSE_SECONDS, app.stopping)
    return 0


def due_analyses(app: App) -> int:
    """Send waiting requests that are due back to the workers."""
    now = app.effects.now_ms()
    with app.database.read() as connection:
        if not analyses.any_due(connection, now):
            return 0
    with app.database.write() as connection:
        due = analyses.take_due(connection, now, BATCH)
    for account, request_id in due:
        app.publisher.send(ANALYSES_QUEUE, RESUME_ACTOR, account, request_id)
    return len(due)


def due_validations(app: App) -> int:
    """Send keys whose validation is due to the workers."""
    now = app.effects.now_ms()
    with app.database.read() as connection:
        if not keys.any_validation_due(connection, now):
            return 0
    with app.database.write() as connection:
        due = keys.take_due_validations(connection, now, BATCH)
    for key_id in due:
        app.publisher.send(VALIDATIONS_QUEUE, VALIDATE_ACTOR, key_id)
    return len(due)


def due_waiting_events(app: App) -> int:
    """Send events again that waited for their account: it is known now, or they waited enough."""
    now = app.effects.now_ms()
    with app.database.read() as connection:
        if not waiting.any_due(connection, now):
            return 0
    with app.database.write() as connection:
        due = waiting.take_due(connection, now, BATCH)
    for event in due:
        app.publisher.send(event.queue, actor_of(event.queue), event.envelope)
    return len(due)


def dead_processes(app: App) -> int:
    """Take over what dead processes had under way."""
    now = app.effects.now_ms()
    with app.database.read() as connection:
        dead = leases.dead(connection, now)
    for process_id in dead:
        _take_over(app, process_id)
    return len(dead)


def past_cooldowns(app: App) -> int:
    """Forget cooldowns that have run out. Found ones are no reason to sweep again at once."""
    now = app.effects.now_ms()
    with app.database.read() as connection:
        if not cooldowns.any_past(connection, now):
            return 0
    with app.database.write() as connection:
        cooldowns.forget_past(connection, now)
    return 0


def _take_over(app: App, process_id: str) -> None:
    now = app.effects.now_ms()
    with app.database.write() as connection:
        leases.end(connection, process_id, now)
        lost = analyses.take_over(connection, process_id, now)
        for request, unknown in lost:
            if unknown >= LOST_WORKERS_ALLOWED:
                ending.fail(app, connection, request, "worker_lost", retryable=False)
            elif app.settings.unknown_attempts is UnknownAttempts.HOLD:
                ending.park(app, connection, request, HELD, request.expires_at)
            else:
                ending.park(app, connection, request, "worker_lost", now, setback=True)
    app.instruments.takeovers.inc()
    app.instruments.unknown_attempts.inc(len(lost))
    log.warning("process_taken_over", process_id=process_id, attempts=len(lost))


SWEEPS: tuple[Sweep, ...] = (
    relay_usage,
    relay_events,
    rewrite_queue_file,
    due_analyses,
    due_validations,
    due_waiting_events,
    dead_processes,
    past_cooldowns,
)
