"""Traps of the queue that no other test meets: redelivery, clocks, connections, middleware."""

import inspect
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
import redis
import structlog
from dramatiq import Broker, Message, actor
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from events.broker import NAMESPACE, PublishingBroker
from tests.unit.workers.standins import stand_in_settings
from workers import boundary, logs, worker
from workers.analyses.operations import OPERATIONS
from workers.app import App
from workers.broker import open_worker_broker
from workers.broker import redis as redis_broker
from workers.broker.redis import RedisWorkerBroker
from workers.settings import QueueGroup

QUEUE = "things"
HEARTBEATS = f"{NAMESPACE}:__heartbeats__"
NO_MAINTENANCE_AT_ALL = 700
"""Dispatches after which maintenance that comes at 2 % has come, but for one time in a million."""


def a_message(number: int = 0) -> Message[None]:
    return Message(queue_name=QUEUE, actor_name="taker", args=(str(number),), kwargs={}, options={})


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    """The queue's database, empty."""
    with redis.Redis.from_url(f"{valkey}?db=0") as opened:
        opened.flushdb()
        yield opened
        opened.flushdb()


def open_broker(valkey: str) -> RedisWorkerBroker:
    broker = open_worker_broker(f"{valkey}?db=0", stopping=threading.Event(), max_connections=8)
    assert isinstance(broker, RedisWorkerBroker)
    actor(broker=broker, queue_name=QUEUE, actor_name="taker")(lambda *_: None)
    return broker


def take_and_die(valkey: str, client: redis.Redis) -> None:
    """A worker takes a message, and its heartbeat ends."""
    broker = open_broker(valkey)
    broker.enqueue(a_message())
    consumer = broker.consume(QUEUE, prefetch=1, timeout=1)
    while next(consumer) is None:
        pass
    client.zadd(HEARTBEATS, {broker.broker_id: 0})
    broker.close()


def test_what_a_dead_worker_had_taken_comes_to_another(valkey: str, client: redis.Redis) -> None:
    take_and_die(valkey, client)
    broker = open_broker(valkey)
    # As fetching does it, without its pauses.
    for _ in range(NO_MAINTENANCE_AT_ALL):
        if broker.fetch(QUEUE, 1):
            break
    else:
        pytest.fail("the message of the dead worker never came")
    broker.close()


def test_a_publisher_moves_no_messages_of_workers(valkey: str, client: redis.Redis) -> None:
    take_and_die(valkey, client)
    publisher = PublishingBroker(f"{valkey}?db=0")
    for number in range(NO_MAINTENANCE_AT_ALL):
        publisher.send(a_message(number))
    # Its clock may be wrong: to whom it seems dead is not for it to say.
    assert client.llen(f"{NAMESPACE}:{QUEUE}") == NO_MAINTENANCE_AT_ALL
    publisher.close()


@pytest.fixture
def app(valkey: str, tmp_path: Path) -> App:
    settings = stand_in_settings(tmp_path, broker_url=f"{valkey}?db=0", analysis_threads=150)
    return App(settings, role="worker")


@pytest.fixture
def opened(app: App) -> Iterator[list[tuple[worker.Group, dramatiq.Worker]]]:
    """The workers of a process, none of them started."""
    made = [(group, worker.open_worker(app, group)) for group in worker.groups(app)]
    yield made
    for _, one in made:
        one.broker.close()


Opened = list[tuple[worker.Group, dramatiq.Worker]]


def test_every_thread_and_consumer_has_a_connection_of_its_own(opened: Opened) -> None:
    for group, one in opened:
        assert isinstance(one.broker, RedisWorkerBroker)
        pool = one.broker.client.connection_pool
        # The threads acknowledge while the consumers fetch.
        held = [pool.get_connection() for _ in range(group.threads + len(one.broker.queues) + 1)]
        for connection in held:
            pool.release(connection)


def test_a_worker_prefetches_no_more_than_its_threads_soon_run(opened: Opened) -> None:
    for group, one in opened:
        assert one.queue_prefetch <= 2 * group.threads


def test_an_idle_consumer_looks_often() -> None:
    # A first message waits for half of this in the middle.
    assert redis_broker.poll_pause(1_000) <= 0.05


def test_nothing_of_dramatiqs_own_middleware_runs(opened: Opened) -> None:
    for _, one in opened:
        ours = {type(part).__module__.partition(".")[0] for part in one.broker.middleware}
        assert ours == {"workers"}


def test_actors_are_plain_functions_so_that_only_the_call_is_on_the_loop(opened: Opened) -> None:
    for _, one in opened:
        for taker in one.broker.actors.values():
            assert not inspect.iscoroutinefunction(taker.fn)


def test_rabbitmq_confirms_what_is_published() -> None:
    url = "amqp://guest:guest@127.0.0.1:9"
    broker: Broker = open_worker_broker(url, stopping=threading.Event(), max_connections=1)
    for one in (broker, PublishingBroker(url)._broker):
        assert isinstance(one, RabbitmqBroker)
        assert one.confirm_delivery


def test_a_stopping_worker_waits_for_longer_than_the_longest_call() -> None:
    longest = max(operation.timeout for operation in OPERATIONS.values())
    assert longest < boundary.DRAIN_SECONDS < worker.DRAIN_MS / 1000


def test_an_app_opens_nothing_before_it_is_asked_to(app: App) -> None:
    # So nothing that a fork would share is there before the process that uses it.
    parts = ("database", "publisher", "stream", "calls", "providers", "pacing", "lease")
    assert not set(parts) & set(vars(app))


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Whatever a test sets up, logging is as before in the end."""
    root, quiet = logging.getLogger(), logging.getLogger("dramatiq")
    handlers, levels = list(root.handlers), (root.level, quiet.level)
    configured = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    quiet.setLevel(levels[1])
    structlog.configure(**configured)


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_failure_logs_no_arguments(
    app: App, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    def register(broker: Broker, _: App) -> None:
        @actor(broker=broker, queue_name=QUEUE, actor_name="taker")
        def fails(*_: object) -> None:
            raise ZeroDivisionError

    logs.set_up("debug")
    one = worker.open_worker(app, worker.Group(QueueGroup.EVENTS, (register,), 1))
    message = a_message().copy(args=("canary-of-arguments",))
    one.broker.enqueue(message)
    one.start()
    pause = threading.Event()
    for _ in range(1000):
        if client.zcard(f"{NAMESPACE}:{QUEUE}.XQ"):
            break
        pause.wait(0.01)
    one.stop()
    one.broker.close()
    told = capsys.readouterr().err
    assert "message_refused" in told
    assert "canary-of-arguments" not in told
