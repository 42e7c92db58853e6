"""Gauges read from broker and store at each scrape, so that they are right with no worker too."""

from collections.abc import Iterable

from events.broker import BrokerAway, PublishingBroker
from events.registry import QUEUES
from metrics.exporter import Gauge
from store import analyses, keys, leases, outbox, setaside
from store.engine import is_unavailable
from workers.app import App
from workers.keys.validation import VALIDATIONS_QUEUE


class Gauges:
    """Reads the gauges. A part that is away is left out and told by `byok_up`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._queue = PublishingBroker(app.settings.effective_broker_url, max_connections=4)

    def read(self) -> Iterable[Gauge]:
        """All gauges as they stand now."""
        up: dict[tuple[str, ...], float] = {}
        gauges: list[Gauge] = []
        try:
            gauges.append(self._queues())
            up["broker",] = 1
        except BrokerAway:
            up["broker",] = 0
        try:
            gauges.extend(self._store())
            up["database",] = 1
        except Exception as error:
            if not is_unavailable(error):
                raise
            up["database",] = 0
        return [("up", "Whether a part can be reached.", ("part",), up), *gauges]

    def _queues(self) -> Gauge:
        names = (*QUEUES, VALIDATIONS_QUEUE)
        depths: dict[tuple[str, ...], float] = {
            (name,): float(self._queue.depth(name)) for name in names
        }
        return ("queue_depth", "Messages that wait on a queue.", ("queue",), depths)

    def _store(self) -> list[Gauge]:
        now = self._app.effects.now_ms()
        with self._app.database.read() as connection:
            by_key = keys.counts(connection)
            by_state = analyses.counts(connection)
            backlog = outbox.backlog(connection)
            kept = setaside.counts(connection)
            live = leases.live_roles(connection, now)
        return [
            (
                "keys",
                "Keys that are connected.",
                ("provider", "status", "reason"),
                {labels: float(count) for labels, count in by_key.items()},
            ),
            (
                "analyses_waiting",
                "Analyses that wait, by reason.",
                ("reason",),
                {
                    (reason or "queued",): float(count)
                    for (state, reason), count in by_state.items()
                    if state == analyses.WAITING
                },
            ),
            (
                "analyses_running",
                "Analyses with an attempt under way.",
                (),
                {(): float(sum(n for (s, _), n in by_state.items() if s == analyses.RUNNING))},
            ),
            (
                "outbox_rows",
                "Rows that wait in the outbox.",
                ("kind",),
                {(kind,): float(count) for kind, (count, _) in backlog.items()},
            ),
            (
                "outbox_oldest_age_seconds",
                "Age of the oldest row in the outbox.",
                ("kind",),
                {(kind,): (now - oldest) / 1000 for kind, (_, oldest) in backlog.items()},
            ),
            (
                "set_aside_messages",
                "Messages that are set aside.",
                ("queue", "reason"),
                {labels: float(count) for labels, count in kept.items()},
            ),
            (
                "processes",
                "Processes that hold a lease.",
                ("role",),
                {(role,): float(count) for role, count in live.items()},
            ),
        ]
