"""The composition root: everything is built here, once, and passed on."""

import threading
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import redis
from sqlalchemy import Connection

from events import Envelope, EventData, Operation, Provider, Publisher, Sources
from events.broker import redis_client
from events.envelope import wrap
from events.signing import SigningKey, Source
from events.usage import UsageRecorded
from store import outbox
from store.engine import Database, after_commit
from store.masterkeys import KeyRing
from store.vault import Vault
from workers.calls import Calls, LoopThread
from workers.effects import Effects, SystemEffects, moment
from workers.health import Health
from workers.lanes import Lanes
from workers.lease import Lease
from workers.masterkeys import open_master_keys
from workers.outlet import GRACE_SECONDS, Outlet
from workers.pacing import Gate as PacingGate
from workers.pacing import Shares
from workers.pauses import PauseWatch
from workers.providers.port import ProviderClient
from workers.settings import Settings
from workers.tracing import Tracer, open_tracer

if TYPE_CHECKING:
    from metrics.instruments import Instruments

SOURCE = "byok/workers"
"""The `source` of events that the workers emit."""

CLI = "cli"
"""The role of a command."""

ROLES = ("worker", "scheduler", "exporter")
"""The roles that run on."""

ANSWER_SECONDS = 20.0
"""So long a role waits for PostgreSQL's answer to a statement. Theirs take some milliseconds, the
longest a second or two; a sweep that meets a silent server and connects anew is through before the
45 s after which its loop counts as stuck."""

_ENDED = ("canceled", "free")
"""Where an account's plan includes nothing, whatever it is called."""

CONNECTIONS = 64
PACING_TIMEOUT_SECONDS = 0.5


@dataclass
class App:
    """What a role, a command or a test works with. Parts are built when first asked for."""

    settings: Settings
    role: str
    effects: Effects = field(default_factory=SystemEffects)
    stopping: threading.Event = field(default_factory=threading.Event)
    ledger_kept_at: float | None = None
    """When this process last looked after the ledger's months, by the monotonic clock."""
    restored_at: int | None = None
    """When the database was last restored from a backup (Unix ms), as this process found it."""
    erased_at: float | None = None
    """When it last found nothing more that is kept no longer."""
    outlet: Outlet | None = None
    """What sends this process's rows of the outbox, if it does that itself."""

    @cached_property
    def database(self) -> Database:
        """The store."""
        return self._open_database()

    @cached_property
    def master_keys(self) -> KeyRing:
        """The configured master keys."""
        return open_master_keys(self.settings, self.effects)

    @cached_property
    def vault(self) -> Vault:
        """Envelope encryption under the configured master keys."""
        return Vault(self.master_keys, self.effects.random_bytes)

    @cached_property
    def publisher(self) -> Publisher:
        """Publishes on the message queue."""
        return Publisher(
            self.settings.effective_broker_url,
            # A command is a person's, and the audit trail names them.
            source=self.settings.operator_source if self.role == CLI else self.settings.source,
            signing_key=self.settings.signer,
            redis_url=self.settings.effective_redis_url,
            now=partial(moment, self.effects),
            new_id=self.effects.new_id,
        )

    @cached_property
    def sources(self) -> Sources | None:
        """Whose events are believed; `None` embedded, where nobody else is on the queue."""
        if self.settings.embedded:
            return None
        keys = [
            SigningKey.derived(private.private_bytes_raw(), SOURCE).private.public_key()
            for private in self.settings.sealing_key_ring.private.values()
        ]
        inside = Source(keys, (UsageRecorded.event_type,))
        return self.settings.sources.and_also(SOURCE, inside)

    @cached_property
    def inside_key(self) -> SigningKey:
        """What the workers sign their own messages with: whoever opens seals can derive it."""
        private = next(iter(self.settings.sealing_key_ring.private.values()))
        return SigningKey.derived(private.private_bytes_raw(), SOURCE)

    @cached_property
    def stream(self) -> "redis.Redis":
        """Redis for the out-event stream."""
        return redis_client(self.settings.effective_redis_url, max_connections=CONNECTIONS)

    @cached_property
    def instruments(self) -> "Instruments":
        """The metrics of this process."""
        from metrics.instruments import open_instruments  # noqa: PLC0415 -- few commands count
        from workers.pricing import priced_models  # noqa: PLC0415 -- as above

        asked = (
            self.settings.model(provider, operation)
            for provider in Provider
            for operation in (None, *Operation)
        )
        return open_instruments(self.settings.metrics_dir, {*priced_models(), *asked})

    @cached_property
    def calls(self) -> Calls:
        """The event loop for provider calls."""
        return LoopThread()

    @cached_property
    def providers(self) -> dict[Provider, ProviderClient]:
        """The provider clients. Imports the SDKs, which takes a second: workers only."""
        from workers import providers  # noqa: PLC0415 -- see the docstring

        in_flight = self.settings.analysis_threads + self.settings.key_threads
        openai = self.settings.base_url(Provider.OPENAI) or providers.OPENAI_URL
        anthropic = self.settings.base_url(Provider.ANTHROPIC) or providers.ANTHROPIC_URL
        clients: dict[Provider, ProviderClient] = {
            Provider.OPENAI: providers.OpenAIClient(base_url=openai, max_in_flight=in_flight),
            Provider.ANTHROPIC: providers.AnthropicClient(
                base_url=anthropic, max_in_flight=in_flight
            ),
        }
        providers.quiet_sdk_logging()
        return clients

    @cached_property
    def pacing(self) -> PacingGate:
        """Permits to call providers. It must not hold a transaction up: it gives up soon."""
        client = redis_client(
            self.settings.effective_redis_url,
            max_connections=2 * self.settings.analysis_threads,
            timeout=PACING_TIMEOUT_SECONDS,
        )
        return PacingGate(client, self.effects.monotonic)

    @cached_property
    def shares(self) -> Shares:
        """What each account has under way in this process."""
        return Shares(self.settings.analysis_threads, self.effects.monotonic)

    @cached_property
    def lanes(self) -> Lanes:
        """How many of this process's threads work on analyses at once."""
        return Lanes()

    @cached_property
    def lease(self) -> Lease:
        """This process's lease, on a connection of its own: it must not wait for work."""
        return Lease(self._open_database(pool_size=1), self.effects, self.role)

    @cached_property
    def pauses(self) -> PauseWatch:
        """What is paused, on a connection of its own as the lease is."""
        return PauseWatch(lambda: self._open_database(pool_size=1), self.effects)

    @cached_property
    def tracer(self) -> Tracer:
        """Traces, if they are asked for. Raises `ConfigurationError`."""
        return open_tracer(self.settings, self.role)

    @cached_property
    def health(self) -> Health:
        """What the threads of this process say of themselves."""
        return Health(self.role, self.effects.monotonic, self.stopping)

    def _open_database(self, *, pool_size: int = 16) -> Database:
        # What a command asks for may rightly take longer: a migration, a rebuild, an audit.
        limit = ANSWER_SECONDS if self.role in ROLES else None
        url = self.settings.effective_database_url
        return Database(url, pool_size=pool_size, answer_seconds=limit)

    def emit(self, connection: Connection, data: EventData, *, account: str) -> None:
        """Put an out-event into the outbox, in the caller's transaction."""
        self.send(connection, outbox.EVENT, self.out_event(data, account=account))

    def send(self, connection: Connection, kind: str, row: outbox.OutboxRow) -> None:
        """Put a row into the outbox, in the caller's transaction, and send it once committed."""
        now = self.effects.now_ms()
        outbox.add(connection, kind, [row], now, due_at=now + self.outbox_grace_ms)
        after_commit(connection, partial(self.committed, kind, row))

    @property
    def outbox_grace_ms(self) -> int:
        """How long the relay is to leave what this process writes into the outbox to it."""
        return 0 if self.outlet is None else int(GRACE_SECONDS * 1000)

    def committed(self, kind: str, row: outbox.OutboxRow) -> None:
        """Send a row of the outbox that was just committed, where this process does that itself."""
        if self.outlet is not None:
            self.outlet.put(kind, row)

    def out_event(self, data: EventData, *, account: str) -> outbox.OutboxRow:
        """An out-event as it goes into the outbox."""
        envelope = self.envelope(data, account=account, signed=False)
        return outbox.OutboxRow(envelope.id, envelope.to_json())

    def envelope(self, data: EventData, *, account: str, signed: bool) -> Envelope:
        """An event from the workers themselves; `signed` where workers are to read it."""
        return wrap(
            data,
            event_id=self.effects.new_id(),
            source=SOURCE,
            time=moment(self.effects),
            account=account,
            traceparent=self.tracer.traceparent(),
            sign=self.inside_key.sign if signed else None,
        )

    def includes_byok(self, plan: str, plan_status: str) -> bool:
        """Whether a plan includes BYOK; a plan that has ended includes nothing."""
        return plan in self.settings.plans and plan_status not in _ENDED

    def includes_categories(self, plan: str, plan_status: str) -> bool:
        """Whether a plan includes categories of the account's own."""
        return plan in self.settings.category_plans and plan_status not in _ENDED

    def close(self) -> None:
        """Close what was opened."""
        if "providers" in self.__dict__:
            for client in self.providers.values():
                self.calls.run(client.close())
        # In this order, and only what was built.
        for name in ("calls", "tracer", "publisher", "stream", "database"):
            if name in self.__dict__:
                getattr(self, name).close()
