"""A role of the real system whose process ends, as by SIGKILL, at a boundary that it is told.

`run` is `byok worker` or `byok scheduler` with every boundary written down: before and after each
commit, message, acknowledgement, permit, pipeline to Redis and provider's call. A boundary is named
by what it is, by the function it stands in, and by how often it was met in this process, so that
its name stays the same however the threads' turns fall and whatever else is changed.

It runs in a fork of an interpreter that has imported everything: an import of its own would take
longer than a history. Importing this module is what that interpreter does.
"""

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import context, get_context
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg  # noqa: F401 -- loaded once, for all that are forked off
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401
from redis.client import Pipeline

import workers.cli.roles
import workers.pricing
import workers.probes
import workers.providers  # noqa: F401
from events.broker import PublishingBroker
from metrics import instruments  # noqa: F401
from store import analyses, keys, leases, outbox, validations, waiting
from store.engine import Database
from workers import scheduler, worker  # noqa: F401
from workers.broker import redis as redis_broker
from workers.broker.rabbitmq import Consumer as RabbitmqConsumer
from workers.broker.redis import Consumer as RedisConsumer
from workers.cli import main
from workers.pacing import Gate
from workers.providers.anthropic import AnthropicClient
from workers.providers.openai import OpenAIClient

EXIT_CODE = 86


@dataclass
class Boundaries:
    """What this process met, in a file that outlives it, and where it ends."""

    file: int
    end: str | None
    met: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, name: str) -> None:
        """Write one down, and end here if that was asked for."""
        if threading.current_thread().name == "lease":
            return
        place = f"{name}, {_ours()}"
        with self.lock:
            self.met[place] += 1
            full = f"{place} #{self.met[place]}"
            os.write(self.file, f"{full}\n".encode())
            if full == self.end:
                os._exit(EXIT_CODE)


def _ours() -> str:
    """The function of the workers that a boundary stands in."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("workers.") and module != "workers.boundary":
            return f"{module.removeprefix('workers.')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "a consumer"


def _around(boundaries: Boundaries, holder: Any, name: str, told: str) -> None:
    """Meet what lies before and after a call."""
    real = getattr(holder, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        boundaries.meet(f"before {told}")
        result = real(*arguments, **options)
        boundaries.meet(f"after {told}")
        return result

    setattr(holder, name, wrapped)


def _after_hand_out(boundaries: Boundaries, consumer: Any) -> None:
    real = consumer.__next__

    def wrapped(self: Any) -> Any:
        message = real(self)
        if message is not None:
            boundaries.meet(f"after hand-out of {self.queue_name}")
        return message

    consumer.__next__ = wrapped


def _around_acknowledgement(boundaries: Boundaries, consumer: Any) -> None:
    real = consumer.ack

    def wrapped(self: Any, message: Any) -> None:
        boundaries.meet(f"before acknowledgement of {message.queue_name}")
        real(self, message)
        boundaries.meet(f"after acknowledgement of {message.queue_name}")

    consumer.ack = wrapped


def _around_call(boundaries: Boundaries, holder: Any, name: str) -> None:
    """The same for a coroutine."""
    real = getattr(holder, name)

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        boundaries.meet(f"before {name}")
        result = await real(*arguments, **options)
        boundaries.meet(f"after {name}")
        return result

    setattr(holder, name, wrapped)


def _note(boundaries: Boundaries) -> None:
    """Wrap what touches the database, the broker, Redis and the providers."""
    write = Database.write

    @contextmanager
    def wrapped_write(self: Database) -> Iterator[Any]:
        with write(self) as connection:
            yield connection
            boundaries.meet("before commit")
        boundaries.meet("after commit")

    Database.write = wrapped_write  # type: ignore[method-assign]
    _around(boundaries, PublishingBroker, "send", "send")
    _around(boundaries, Pipeline, "execute", "pipeline")
    _around(boundaries, Gate, "enter", "permit")
    _around(boundaries, Gate, "leave", "permit's end")
    for consumer in (RedisConsumer, RabbitmqConsumer):
        _after_hand_out(boundaries, consumer)
        _around_acknowledgement(boundaries, consumer)
    for client in (OpenAIClient, AnthropicClient):
        for call in ("ask", "probe", "spend"):
            _around_call(boundaries, client, call)


def _hasten() -> None:
    """Notice a dead process, and send again, after seconds: what is shown is that, not how soon."""
    leases.RENEW_SECONDS, leases.DEAD_AFTER_SECONDS = 0.5, 2.5
    redis_broker.HEARTBEAT_TIMEOUT_MS, redis_broker.MAINTENANCE_CHANCE = 2_500, 200_000
    analyses.RESEND_SECONDS = validations.RESEND_SECONDS = keys.RESEND_SECONDS = 3
    waiting.RESEND_SECONDS = keys.FIRST_LOOK_SECONDS = 2
    analyses.TURN_SECONDS = outbox.RESEND_BASE_SECONDS = 1


def run(
    name: str, environment: Mapping[str, str], log: Path, boundaries: Path, end: str | None
) -> None:
    """Be the role `name` in this process, which nothing else goes on in."""
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    _hasten()
    _note(Boundaries(os.open(boundaries, os.O_WRONLY | os.O_APPEND), end))
    sys.argv = ["byok", name]
    main.run()


def forks() -> context.ForkServerContext:
    """Where processes come from."""
    ready = get_context("forkserver")
    ready.set_forkserver_preload([__name__])
    return ready
