"""Loaded by every interpreter whose `PYTHONPATH` names this directory, before anything else.

In a role's process it moves the clock, sends every message twice, and dies of a poisonous mail,
each as the files in the directory that `CHAOS` names say.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

CLOCK = "clock"
"""The file with the seconds that the clock is ahead."""
TWICE = "twice"
"""The file that is there while every message is sent twice."""
POISON = "xchaospoisonx"
"""A mail with this word in it kills the worker that sends it."""

LOOK_SECONDS = 0.05


def _move_clock(directory: Path) -> None:
    file = directory / CLOCK
    real, real_ns, monotonic = time.time, time.time_ns, time.monotonic
    seen = [0.0, float("-inf")]

    def ahead() -> float:
        now = monotonic()
        if now - seen[1] > LOOK_SECONDS:
            seen[1] = now
            with suppress(OSError):  # it has not been moved yet
                seen[0] = float(file.read_text())
        return seen[0]

    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + int(ahead() * 1e9)


def _send_twice(directory: Path) -> None:
    from events.broker import PublishingBroker  # noqa: PLC0415 -- in roles only

    file, send = directory / TWICE, PublishingBroker.send

    def sent(self: PublishingBroker, message: Any) -> None:
        send(self, message)
        if file.exists():
            # What a broker hands out twice is the same message.
            send(self, message.copy(options={}))

    PublishingBroker.send = sent  # type: ignore[method-assign]  # a fault, by patch


def _die_of_poison() -> None:
    from workers.providers.anthropic import AnthropicClient  # noqa: PLC0415 -- in workers only
    from workers.providers.openai import OpenAIClient  # noqa: PLC0415 -- as above

    def lethal(ask: Any) -> Any:
        async def asked(self: Any, key: Any, question: Any) -> Any:
            if POISON in question.user:
                os.kill(os.getpid(), signal.SIGKILL)
            return await ask(self, key, question)

        return asked

    for client in (OpenAIClient, AnthropicClient):
        client.ask = lethal(client.ask)  # type: ignore[attr-defined]  # a fault, by patch


if "CHAOS" in os.environ and "workers.cli" in sys.orig_argv:
    _move_clock(Path(os.environ["CHAOS"]))
    if "worker" in sys.orig_argv or "scheduler" in sys.orig_argv:
        _send_twice(Path(os.environ["CHAOS"]))
    if "worker" in sys.orig_argv:
        _die_of_poison()
