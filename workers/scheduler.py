"""The scheduler: looks for what is due and sends it on its way. Two at once do no harm.

Each sweep reads first and only writes where it found something, so that an idle scheduler takes
no lock. What a sweep takes is put off rather than deleted: if the message it sends is lost, the
next sweep finds it again.
"""

import math
from collections.abc import Callable

import structlog

from events import Provider
from events.accounts import ACCOUNTS_QUEUE
from events.analyses import ANALYSES_QUEUE
from events.broker import BrokerAway, actor_of
from events.keys import KEYS_QUEUE
from store import analyses, cooldowns, gate, leases, pace, pauses, waiting
from store.engine import after_commit
from workers.analyses import ending
from workers.analyses.retry import UNKNOWN_ALLOWED, pause_after_loss
from workers.analyses.turns import RESUME_ACTOR
from workers.app import App
from workers.keys.revalidation import send_due
from workers.pacing import Permit, Result
from workers.pacing.permits import holder_of
from workers.queues import VALIDATIONS_QUEUE
from workers.relay import relay_events, relay_usage, rewrite_queue_file
from workers.retention import kept_no_longer
from workers.settings import UnknownAttempts
from workers.usage.keeping import ledger_months

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.1
BATCH = 500
OUTAGE_PAUSE_SECONDS = 1.0
BROKER_ASKED_SECONDS = 2.0
_SWEEPS = "loop of the sweeps"

ACCOUNT_BATCH = 8
"""So many of an account's due requests are sent in one sweep. Each that is run wakes another, for
as long as there is room: what comes due together does not come back together."""

CALL_LIMIT_MS = 15 * 60 * 1000
"""A running attempt that is older than this is nobody's any more: a call takes a minute at most,
and its completion waits for the database for as long as its process has a lease."""

FULL_QUEUE = 5_000
"""No more due requests are sent while this many messages wait: they would only lie there, be sent
again, and be ahead of new mail."""

FIRST_BACK_PER_SECOND = 20.0
BACK_DOUBLES_SECONDS = 10.0
MOST_BACK_PER_SECOND = 1_000.0
"""What waited for a pause to end comes back at this pace, twice as fast every ten seconds: a
provider that was just mended meets no herd, and 100,000 requests are back in three minutes."""

PAUSE_KEPT_MS = 15 * 60 * 1000
"""How long a pause that ended is remembered: longer than a request waits for its key's verdict,
since none was asked for meanwhile."""

Sweep = Callable[[App], int]


def run(app: App) -> None:
    """Sweep until the app is stopping."""
    app.lease.start()
    app.pauses.start()
    health = app.health
    health.expect(_SWEEPS)
    health.watch_thread("the lease's thread", app.lease.is_alive)
    health.watch_thread("the pauses' thread", app.pauses.is_alive)
    health.require("database", app.lease.is_held)
    health.has_started()
    broker_asked = float("-inf")
    try:
        while not app.stopping.is_set():
            if app.effects.monotonic() - broker_asked > BROKER_ASKED_SECONDS:
                broker_asked = app.effects.monotonic()
                _ask_broker(app)
            found = sum(_sweep(app, sweep) for sweep in SWEEPS)
            if not found:
                app.effects.wait(TICK_SECONDS, app.stopping)
    finally:
        app.pauses.stop()
        app.lease.release()


def _sweep(app: App, sweep: Sweep) -> int:
    """Run one sweep. What goes wrong in one keeps none of the others from running."""
    app.health.goes_round(_SWEEPS)
    try:
        return sweep(app)
    except Exception as error:  # noqa: BLE001 -- see the docstring
        app.instruments.sweep_failures.labels(sweep.__name__).inc()
        log.warning("sweep_failed", sweep=sweep.__name__, error=type(error).__name__)
    app.effects.wait(OUTAGE_PAUSE_SECONDS, app.stopping)
    return 0


def _ask_broker(app: App) -> None:
    """Ask whether the broker answers: an idle scheduler would not know."""
    app.health.goes_round(_SWEEPS)
    try:
        app.publisher.depth(ANALYSES_QUEUE)
    except BrokerAway:
        app.health.answered("broker", well=False)
    else:
        app.health.answered("broker", well=True)


def due_analyses(app: App) -> int:
    """Send waiting requests that are due back to the workers."""
    now = app.effects.now_ms()
    if ANALYSES_QUEUE in app.pauses.known.queues:
        # They would lie on the queue and be sent again.
        return 0
    with app.database.look() as connection:
        if not analyses.any_due(connection, now):
            return 0
    if app.publisher.depth(ANALYSES_QUEUE) >= FULL_QUEUE:
        return 0
    with app.database.write() as connection:
        due = analyses.take_due(connection, now, BATCH, ACCOUNT_BATCH)
    for account, request_id in due:
        app.publisher.send(ANALYSES_QUEUE, RESUME_ACTOR, account, request_id)
    return len(due)


def due_validations(app: App) -> int:
    """Send keys whose validation is due to the workers, at the pace of each provider."""
    if VALIDATIONS_QUEUE in app.pauses.known.queues:
        return 0
    swept = [send_due(app, provider) for provider in Provider]
    return sum(each.sent + each.put_off for each in swept)


def due_waiting_events(app: App) -> int:
    """Send events again that waited for their account: it is known now, or they waited enough."""
    now = app.effects.now_ms()
    if {ACCOUNTS_QUEUE, KEYS_QUEUE} & set(app.pauses.known.queues):
        # What they wait for may lie on the paused queue.
        return 0
    with app.database.look() as connection:
        if not waiting.any_due(connection, now):
            return 0
    with app.database.write() as connection:
        due = waiting.take_due(connection, now, BATCH)
    for event in due:
        app.publisher.send(event.queue, actor_of(event.queue), event.envelope)
    return len(due)


def paused_requests(app: App) -> int:
    """Bring back, bit by bit, what waited for pauses that have ended."""
    with app.database.look() as connection:
        ended = [one for one in pauses.standing(connection) if one.resumed_at is not None]
    return sum(_bring_back(app, one, one.resumed_at or 0) for one in ended)


def _bring_back(app: App, ended: pauses.Pause, resumed_at: int) -> int:
    now = app.effects.now_ms()
    rate = back_per_second((now - resumed_at) / 1000)
    scope = f"resumed:{ended.kind}:{ended.name}"
    with app.database.look() as connection:
        waits = pauses.any_held_back(connection, ended)
        room = pace.room(connection, scope, now, rate)
    if waits and room > 0:
        with app.database.write() as connection:
            back = pauses.bring_back(connection, ended, now, room)
            pace.take(connection, scope, now, rate, back)
        return back
    if not waits and now >= resumed_at + PAUSE_KEPT_MS:
        with app.database.write() as connection:
            pauses.forget(connection, ended)
    return 0


def back_per_second(seconds: float) -> float:
    """How many requests a second come back that long after a pause ended."""
    doublings = min(max(seconds, 0.0) / BACK_DOUBLES_SECONDS, 16.0)
    return min(FIRST_BACK_PER_SECOND * math.exp2(doublings), MOST_BACK_PER_SECOND)


def dead_processes(app: App) -> int:
    """End the leases of dead processes."""
    now = app.effects.now_ms()
    with app.database.look() as connection:
        dead = leases.dead(connection, now)
    for process_id in dead:
        with app.database.write() as connection:
            ended = leases.end_if_dead(connection, process_id, now)
        if ended:
            app.instruments.takeovers.inc()
            log.warning("process_taken_over", process_id=process_id)
    return len(dead)


def orphaned_requests(app: App) -> int:
    """Take over requests whose attempt nobody will complete, whatever became of its process."""
    now = app.effects.now_ms()
    with app.database.look() as connection:
        orphans = analyses.orphans(connection, now - CALL_LIMIT_MS, BATCH)
    for account, request_id in orphans:
        _take_over(app, account, request_id)
    return len(orphans)


def lost_attempts(app: App) -> int:
    """List calls of dead processes as unknown that no running request waits for: probes, too."""
    now = app.effects.now_ms()
    with app.database.look() as connection:
        if not analyses.any_lost_attempt(connection, now - CALL_LIMIT_MS):
            return 0
    with app.database.write() as connection:
        lost = analyses.give_up_lost_attempts(connection, now - CALL_LIMIT_MS, now, BATCH)
    app.instruments.unknown_attempts.inc(lost)
    return lost


def past_cooldowns(app: App) -> int:
    """Forget cooldowns that have run out. Found ones are no reason to sweep again at once."""
    now = app.effects.now_ms()
    with app.database.look() as connection:
        if not cooldowns.any_past(connection, now):
            return 0
    with app.database.write() as connection:
        cooldowns.forget_past(connection, now)
    return 0


def _take_over(app: App, account: str, request_id: str) -> None:
    """Make the attempt `unknown`, and by policy have the request run again or held."""
    now = app.effects.now_ms()
    with app.database.write() as connection:
        gate.share(connection, account)
        request = analyses.find(connection, account, request_id, lock=True)
        if request is None or request.state != analyses.RUNNING:
            return
        analyses.give_up_attempt(connection, request, "worker_lost", now)
        after_commit(connection, app.instruments.unknown_attempts.inc)
        lost = analyses.unknown_count(connection, account, request_id)
        if lost >= UNKNOWN_ALLOWED:
            ending.fail(app, connection, request, "worker_lost", retryable=False)
        elif app.settings.unknown_attempts is UnknownAttempts.HOLD:
            ending.park(app, connection, request, analyses.HELD, request.expires_at)
        else:
            due_at = now + int(1000 * pause_after_loss(lost, app.effects.jitter()))
            ending.park(app, connection, request, "worker_lost", due_at, setback=True)
    _release_permit(app, request)


def _release_permit(app: App, request: analyses.Request) -> None:
    """Give back the permit of an attempt that was given up, so that its key is free again."""
    if request.provider is None:
        return
    scope = (
        cooldowns.key_scope(request.key_id)
        if request.key_id
        else cooldowns.platform_scope(request.provider)
    )
    holder = holder_of(request.account_id, request.request_id, request.attempt)
    account = None if request.key_id else request.account_id
    app.pacing.leave(Permit(request.provider, scope, holder, account), Result.UNSENT)


SWEEPS: tuple[Sweep, ...] = (
    relay_usage,
    relay_events,
    rewrite_queue_file,
    paused_requests,
    due_analyses,
    due_validations,
    due_waiting_events,
    dead_processes,
    orphaned_requests,
    lost_attempts,
    past_cooldowns,
    ledger_months,
    kept_no_longer,
)
