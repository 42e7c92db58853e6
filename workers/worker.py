"""The worker role: dramatiq workers on our queues, in one process."""

import base64
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dramatiq
import structlog
from dramatiq import Broker, actor

from events import EventRefused
from store import restore, vault
from store.masterkeys import MasterKeyMissing, MasterKeyUnavailable
from workers import accounts
from workers.analyses import actors as analyses_actors
from workers.app import App
from workers.boundary import DRAIN_SECONDS, put_aside
from workers.broker import (
    LONGEST_POLL_SECONDS,
    FailOnError,
    TimeMessages,
    open_worker_broker,
    unreadable_actor,
)
from workers.health import Health
from workers.keys import actors as keys_actors
from workers.relay import open_outlet
from workers.settings import ConfigurationError, QueueGroup
from workers.usage import actors as usage_actors

log = structlog.get_logger(__name__)

WORKER_POLL_MS = 1000
"""How often an idle worker thread wakes. The consumers' own poll decides how long a message
waits (see `workers.broker`); this is only how long a thread takes to see that it is to stop."""

HURRIED, UNHURRIED = 0.01, 0.05
"""How often (s) an idle consumer looks where somebody waits for it, and where nobody does."""

CALLS_ROUND_SECONDS = 1.0
"""How often the event loop of the calls says that it is not stuck."""

DRAIN_MS = int(DRAIN_SECONDS * 1000) + 5_000

USAGE_THREADS = 2


@dataclass(frozen=True, slots=True)
class Group:
    """Queues that share threads: no flood on one group's queues delays another group's."""

    name: QueueGroup
    registers: Sequence[Callable[[Broker, App], None]]
    threads: int
    longest_poll: float = LONGEST_POLL_SECONDS
    """How many seconds a first message may wait for an idle consumer's look at Redis."""


def groups(app: App) -> list[Group]:
    """The groups that this process takes. A consent or a removal never waits behind analyses."""
    settings = app.settings
    every = [
        Group(QueueGroup.EVENTS, (accounts.register, keys_actors.register), settings.key_threads),
        Group(QueueGroup.VALIDATIONS, (keys_actors.register_validations,), settings.key_threads),
        Group(QueueGroup.ANALYSES, (analyses_actors.register,), settings.analysis_threads, HURRIED),
        Group(QueueGroup.USAGE, (usage_actors.register,), USAGE_THREADS, UNHURRIED),
    ]
    return [group for group in every if group.name in settings.queues]


class ConsumerWatch:
    """What the consumers of a process ask and tell: of pauses, and of their health."""

    def __init__(self, app: App) -> None:
        self._pauses = app.pauses
        self._health = app.health

    def is_paused(self, queue: str) -> bool:
        return queue in self._pauses.known.queues

    def goes_round(self, queue: str) -> None:
        self._health.goes_round(_consumer(queue))

    def answered(self, queue: str, *, well: bool) -> None:
        self._health.answered(f"broker, queue {queue}", well=well)


def _consumer(queue: str) -> str:
    return f"consumer of {queue}"


def open_worker(app: App, group: Group) -> dramatiq.Worker:
    """A dramatiq worker for the group, on a broker identity of its own, not started yet."""
    broker = open_worker_broker(
        app.settings.effective_broker_url,
        stopping=app.stopping,
        # Above the number of threads: one without a connection could not acknowledge.
        max_connections=2 * group.threads + 8,
        watch=ConsumerWatch(app),
        longest_poll=group.longest_poll,
    )
    for register in group.registers:
        register(broker, app)
    for queue in sorted(broker.get_declared_queues()):
        _register_unreadable(broker, app, queue)
        app.health.expect(_consumer(queue))
    broker.add_middleware(FailOnError())
    broker.add_middleware(TimeMessages(app.instruments))
    for taker in broker.actors.values():
        # At debug level an actor tells the arguments that it got: whole messages, readable or not.
        taker.logger.setLevel(logging.WARNING)
    return dramatiq.Worker(broker, worker_threads=group.threads, worker_timeout=WORKER_POLL_MS)


def run(app: App) -> None:
    """Work until the app is stopping, then finish what is under way."""
    _build_parts(app)
    _require_master_keys(app)
    with app.database.read() as connection:
        app.restored_at = restore.restored_at(connection)
    app.lease.start()
    app.pauses.start()
    app.outlet = open_outlet(app)
    app.outlet.start()
    taken = groups(app)
    workers = {group.name.value: open_worker(app, group) for group in taken}
    for name, worker in workers.items():
        worker.start()
        _watch(app.health, name, worker)
    _watch_parts(app)
    app.health.has_started()
    log.info("worker_ready", queues=list(workers))
    app.stopping.wait()
    log.info("worker_draining")
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(lambda worker: worker.stop(timeout=DRAIN_MS), workers.values()))
    app.outlet.stop()
    app.pauses.stop()
    app.lease.release()
    for worker in workers.values():
        worker.broker.close()


def _watch(health: Health, name: str, worker: dramatiq.Worker) -> None:
    """Have it seen where a thread of a dramatiq worker dies: it says nothing itself."""
    health.watch_thread(
        f"a thread for {name}", lambda: all(thread.is_alive() for thread in worker.workers)
    )
    for queue, consumer in worker.consumers.items():
        health.watch_thread(_consumer(queue), consumer.is_alive)


def _watch_parts(app: App) -> None:
    health = app.health
    health.watch_thread("the lease's thread", app.lease.is_alive)
    health.watch_thread("the pauses' thread", app.pauses.is_alive)
    if app.outlet is not None:
        health.watch_thread("the outlet's thread", app.outlet.is_alive)
    health.require("database", app.lease.is_held)
    app.calls.every(CALLS_ROUND_SECONDS, lambda: health.goes_round("loop of the calls"))


def _require_master_keys(app: App) -> None:
    """Refuse to start without the master keys that stored values need.

    Such a worker would find fault with every key and every message that it took.
    """
    with app.database.read() as connection:
        missing = vault.master_keys_in_use(connection) - app.master_keys.ids
    if missing:
        raise ConfigurationError(
            f"BYOK_MASTER_KEYS lacks {', '.join(sorted(missing))}, which stored values need."
        )
    try:
        app.master_keys.prove(app.master_keys.current_id, app.effects.random_bytes)
    except (MasterKeyMissing, MasterKeyUnavailable) as error:
        # No reason to stop: it may be back sooner than this process.
        log.warning("master_key_unavailable", sentence=str(error))


def _build_parts(app: App) -> None:
    """Build what the threads share in this one thread; a wrong setting stops the start here."""
    app.settings.sealing_key_ring.current  # noqa: B018 -- reading it checks it
    for part in (app.vault, app.instruments, app.calls, app.providers, app.publisher, app.tracer):
        log.debug("part_built", part=type(part).__name__)


def _register_unreadable(broker: Broker, app: App, queue: str) -> None:
    @actor(broker=broker, queue_name=queue, actor_name=unreadable_actor(queue))
    def unreadable_message(data: str) -> None:
        refused = EventRefused(
            "not_a_message",
            "The message is not one that this system's actors take: publish events with the "
            "fields that the event reference names.",
        )
        put_aside(app, queue, base64.b64decode(data), refused)
