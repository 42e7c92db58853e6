"""The gauges' sources: broker, store and Redis, read by the exporter, so with no worker too."""

import platform
from collections.abc import Sequence
from importlib.metadata import version

import structlog

from events import Provider
from events.analyses import ANALYSES_QUEUE
from events.broker import PublishingBroker
from events.usage import USAGE_QUEUE
from metrics import gauges
from metrics.exporter import Source
from metrics.gauges import Reading
from store import backlog, keys, leases, outbox, pauses, retention, setaside
from store.backlog import Backlog
from workers.app import App
from workers.budgets import budget_states
from workers.pricing import PRICE_VERSION
from workers.queues import ALL_QUEUES, VALIDATIONS_QUEUE
from workers.retention import kept_since

log = structlog.get_logger(__name__)

_PAUSABLE = (
    *((pauses.PROVIDER, provider.value) for provider in Provider),
    *((pauses.QUEUE, queue) for queue in ALL_QUEUES),
    (pauses.ACCOUNT, pauses.ACCOUNT),
)


class Gauges:
    """Reads the gauges of everything that all processes share."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._queue = PublishingBroker(app.settings.effective_broker_url, max_connections=4)

    def sources(self) -> list[Source]:
        """What the exporter reads, each by itself: one that is away or slow delays no other."""
        return [
            Source("broker", "broker", self.read_broker),
            Source("database", "database", self.read_database),
            Source("counts", "database", self.read_counts),
            Source("redis", "redis", self.read_redis),
        ]

    def failed(self, source: str, error: Exception) -> None:
        """Note that a source could not be read; `byok_up` tells of it too."""
        log.warning("gauges_not_read", source=source, error=type(error).__name__)

    def close(self) -> None:
        """Close the connections to the broker."""
        self._queue.close()

    def read_broker(self) -> Sequence[Reading]:
        """What lies on the queues."""
        now = self._app.effects.now_ms()
        depth: dict[tuple[str, ...], int] = {}
        age: dict[tuple[str, ...], float] = {}
        for queue in ALL_QUEUES:
            waiting = self._queue.waiting(queue, now)
            depth[queue, "broker"] = waiting.count
            age[queue, "broker"] = _seconds(now, waiting.since)
            if waiting.taken is not None:
                depth[queue, "taken"] = waiting.taken
        return [gauges.QUEUE_DEPTH.of(depth), gauges.QUEUE_AGE.of(age)]

    def read_database(self) -> Sequence[Reading]:
        """What is found in the store by looking at few rows."""
        now, kept = self._app.effects.now_ms(), kept_since(self._app)
        with self._app.database.read() as connection:
            due: dict[str, Backlog | None] = {
                **backlog.due_events(connection, now),
                ANALYSES_QUEUE: backlog.due_requests(connection, now),
                VALIDATIONS_QUEUE: backlog.due_validations(connection, now),
                USAGE_QUEUE: backlog.due_usage(connection),
            }
            rows = outbox.backlog(connection)
            validations = backlog.validations(connection, now)
            running = backlog.running_analyses(connection)
            unknown = backlog.unknown_attempts(connection)
            live = leases.live_roles(connection, now)
            standing = pauses.standing(connection)
            oldest = retention.oldest(connection)
        in_store = {queue: due.get(queue) for queue in ALL_QUEUES}
        depth = {(queue, "store"): it.count if it else 0 for queue, it in in_store.items()}
        age = {(q, "store"): _seconds(now, it.since if it else None) for q, it in in_store.items()}
        return [
            gauges.QUEUE_DEPTH.of(depth),
            gauges.QUEUE_AGE.of(age),
            gauges.VALIDATIONS_DUE.every({(name,): n for name, (n, _) in validations.items()}),
            gauges.VALIDATIONS_LATE.every({(name,): n for name, (_, n) in validations.items()}),
            gauges.RUNNING.every(running),
            gauges.UNKNOWN.every({(): unknown}),
            gauges.OUTBOX_ROWS.every({(kind,): n for kind, (n, _) in rows.items()}),
            gauges.OUTBOX_AGE.every({(k,): _seconds(now, at) for k, (_, at) in rows.items()}),
            gauges.PROCESSES.every({(role,): n for role, n in live.items()}),
            *_paused(standing, now),
            gauges.KEPT_TOO_LONG.every(
                {(kind,): _seconds(since, oldest.get(kind)) for kind, since in kept.items()}
            ),
        ]

    def read_counts(self) -> Sequence[Reading]:
        """What is found in the store by counting many rows."""
        now = self._app.effects.now_ms()
        with self._app.database.read() as connection:
            connected = keys.counts(connection)
            waiting = backlog.waiting_analyses(connection)
            kept = setaside.counts(connection)
            spending = budget_states(self._app, connection, now)
        reasons = {reason or "queued": it for reason, it in waiting.items()}
        return [
            gauges.KEYS.of(connected),
            gauges.WAITING.every({(reason,): it.count for reason, it in reasons.items()}),
            gauges.WAITING_AGE.every(
                {(reason,): _seconds(now, it.since) for reason, it in reasons.items()}
            ),
            gauges.SET_ASIDE.of(kept),
            gauges.BUDGETS.every(spending.states),
            gauges.PLATFORM_BUDGET.every({(): spending.platform_share}),
        ]

    def read_redis(self) -> Sequence[Reading]:
        """The providers' breakers."""
        states = self._app.pacing.breakers()
        return [gauges.BREAKER.every(dict.fromkeys(states.items(), 1))]


def _paused(standing: Sequence[pauses.Pause], now: int) -> list[Reading]:
    count: dict[tuple[str, ...], int] = {}
    since: dict[tuple[str, ...], float] = {}
    for one in standing:
        if one.resumed_at is None:
            named = (one.kind, one.kind if one.kind == pauses.ACCOUNT else one.name)
            count[named] = count.get(named, 0) + 1
            since[named] = max(since.get(named, 0.0), _seconds(now, one.at))
    # What could be paused is 0, and not what no kind has.
    zero = dict.fromkeys(_PAUSABLE, 0.0)
    return [gauges.PAUSED.of({**zero, **count}), gauges.PAUSED_SECONDS.of({**zero, **since})]


def build() -> Reading:
    """Which versions run."""
    versions = (version("byok-workers"), platform.python_version(), PRICE_VERSION)
    return Reading(gauges.BUILD, {versions: 1.0})


def _seconds(now: int, since: int | None) -> float:
    return 0.0 if since is None else max(0, now - since) / 1000
