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
from store import vault
from store.masterkeys import MasterKeyMissing, MasterKeyUnavailable
from workers import accounts
from workers.analyses import actors as analyses_actors
from workers.app import App
from workers.boundary import DRAIN_SECONDS, put_aside
from workers.broker import FailOnError, TimeMessages, open_worker_broker, unreadable_actor
from workers.keys import actors as keys_actors
from workers.settings import ConfigurationError, QueueGroup
from workers.usage import actors as usage_actors

log = structlog.get_logger(__name__)

WORKER_POLL_MS = 1000
"""How often an idle worker thread wakes. The consumers' own poll decides how long a message
waits (see `workers.broker`); this is only how long a thread takes to see that it is to stop."""

DRAIN_MS = int(DRAIN_SECONDS * 1000) + 5_000

USAGE_THREADS = 2


@dataclass(frozen=True, slots=True)
class Group:
    """Queues that share threads: no flood on one group's queues delays another group's."""

    name: QueueGroup
    registers: Sequence[Callable[[Broker, App], None]]
    threads: int


def groups(app: App) -> list[Group]:
    """The groups that this process takes. A consent or a removal never waits behind analyses."""
    settings = app.settings
    every = [
        Group(QueueGroup.EVENTS, (accounts.register, keys_actors.register), settings.key_threads),
        Group(QueueGroup.VALIDATIONS, (keys_actors.register_validations,), settings.key_threads),
        Group(QueueGroup.ANALYSES, (analyses_actors.register,), settings.analysis_threads),
        Group(QueueGroup.USAGE, (usage_actors.register,), USAGE_THREADS),
    ]
    return [group for group in every if group.name in settings.queues]


def open_worker(app: App, group: Group) -> dramatiq.Worker:
    """A dramatiq worker for the group, on a broker identity of its own, not started yet."""
    broker = open_worker_broker(
        app.settings.effective_broker_url,
        stopping=app.stopping,
        # Above the number of threads: one without a connection could not acknowledge.
        max_connections=2 * group.threads + 8,
    )
    for register in group.registers:
        register(broker, app)
    for queue in sorted(broker.get_declared_queues()):
        _register_unreadable(broker, app, queue)
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
    app.lease.start()
    taken = groups(app)
    workers = [open_worker(app, group) for group in taken]
    for worker in workers:
        worker.start()
    log.info("worker_ready", queues=[group.name.value for group in taken])
    app.stopping.wait()
    log.info("worker_draining")
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(lambda worker: worker.stop(timeout=DRAIN_MS), workers))
    app.lease.release()
    for worker in workers:
        worker.broker.close()


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
    for part in (app.vault, app.instruments, app.calls, app.providers, app.publisher):
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
