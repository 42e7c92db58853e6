"""A role of the real system whose process ends, as by SIGKILL, at the boundaries it is told.

`python -m tests.crashpoints.launcher worker` is `byok worker` with every boundary numbered: before
and after each commit, message, acknowledgement, permit, pipeline to Redis and provider's call.
`CRASH_AT` names the number at which it ends, `BOUNDARIES` a file that each boundary is written to.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXIT_CODE = 86

_counted = 0
_lock = threading.Lock()


def boundary(name: str) -> None:
    """Count one, and end here if that was asked for."""
    if threading.current_thread().name == "lease":
        return
    global _counted  # noqa: PLW0603 -- one number for the process
    with _lock:
        _counted += 1
        with Path(os.environ["BOUNDARIES"]).open("a") as file:
            file.write(f"{_counted} {name}\n")
        if _counted == int(os.environ.get("CRASH_AT", "0")):
            os._exit(EXIT_CODE)


def around(holder: Any, name: str, told: str) -> None:
    """Number what lies before and after a call."""
    real = getattr(holder, name)

    def numbered(*arguments: Any, **options: Any) -> Any:
        boundary(f"before {told}")
        result = real(*arguments, **options)
        boundary(f"after {told}")
        return result

    setattr(holder, name, numbered)


def around_call(holder: Any, name: str, told: str) -> None:
    """The same for a coroutine."""
    real = getattr(holder, name)

    async def numbered(*arguments: Any, **options: Any) -> Any:
        boundary(f"before {told}")
        result = await real(*arguments, **options)
        boundary(f"after {told}")
        return result

    setattr(holder, name, numbered)


def number_boundaries() -> None:
    """Wrap what touches the database, the broker, Redis and the providers."""
    from redis.client import Pipeline  # noqa: PLC0415 -- loaded in the role's process alone

    from events.broker import PublishingBroker  # noqa: PLC0415
    from store.engine import Database  # noqa: PLC0415
    from workers.broker.rabbitmq import Consumer as RabbitmqConsumer  # noqa: PLC0415
    from workers.broker.redis import Consumer as RedisConsumer  # noqa: PLC0415
    from workers.pacing import Gate  # noqa: PLC0415
    from workers.providers.anthropic import AnthropicClient  # noqa: PLC0415
    from workers.providers.openai import OpenAIClient  # noqa: PLC0415

    write = Database.write

    @contextmanager
    def numbered_write(self: Database) -> Iterator[Any]:
        with write(self) as connection:
            yield connection
            boundary("before commit")
        boundary("after commit")

    Database.write = numbered_write  # type: ignore[method-assign]
    around(PublishingBroker, "send", "send")
    around(Pipeline, "execute", "pipeline")
    around(Gate, "enter", "permit")
    around(Gate, "leave", "permit's end")
    around(RedisConsumer, "_handed_out", "hand-out")
    for consumer in (RedisConsumer, RabbitmqConsumer):
        around(consumer, "ack", "acknowledgement")
    for client in (OpenAIClient, AnthropicClient):
        for call in ("ask", "probe", "spend"):
            around_call(client, call, call)


def hasten() -> None:
    """Notice a dead process after seconds: what is shown is that it is, not how soon."""
    from store import leases  # noqa: PLC0415 -- as above
    from workers.broker import redis  # noqa: PLC0415

    leases.RENEW_SECONDS, leases.DEAD_AFTER_SECONDS = 0.5, 3.0
    redis.HEARTBEAT_TIMEOUT_MS, redis.MAINTENANCE_CHANCE = 3_000, 200_000


if __name__ == "__main__":
    hasten()
    number_boundaries()
    from workers.cli.main import run

    sys.exit(run())
