"""Lanes: processes that live one history after the other, each on services of its own."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

from deploy.local.sandbox import SandboxServer
from tests.conftest import Services, alone, new_database, run_postgresql, run_valkey
from tests.crashpoints.lives import Lived
from tests.crashpoints.places import Place

DATABASES_OF_REDIS = 16


@dataclass(frozen=True)
class Tried:
    """A history: where its roles were to end, where they did, and what did not hold."""

    ends: dict[str, list[str]]
    ended: dict[str, list[str]]
    wrong: str | None
    seconds: float

    def __str__(self) -> str:
        places = "; ".join(f"{role} {place}" for role in self.ends for place in self.ends[role])
        told = self.wrong or ("holds" if self.ended == self.ends else "holds, not all were reached")
        return f"{self.seconds:5.1f} s  {places}: {told}"


def _given(variable: str) -> list[str]:
    urls = os.environ.get(variable)
    if not urls:
        raise SystemExit(f"{variable} is not set: name the service, or give other SERVICES.")
    return urls.split(",")


@contextmanager
def _valkey() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="byok-crash-") as directory,
        run_valkey(Path(directory)) as url,
    ):
        yield url


@contextmanager
def services(kind: str, most: int) -> Iterator[list[Services]]:
    """Services for as many lanes as they allow, at most `most`."""
    store, queue = kind.split("-")
    with ExitStack() as stack:
        if queue == "valkey":
            lanes = most
            urls = [stack.enter_context(_valkey()) for _ in range(lanes)]
            brokers, besides = [f"{url}?db=0" for url in urls], [f"{url}?db=1" for url in urls]
        else:
            (url,) = _given("BYOK_TEST_REDIS_URL")
            url = url.rstrip("/").removesuffix("/0")
            # As the tests take them: each two databases are one process's.
            numbers = range(DATABASES_OF_REDIS - 2, -1, -2)
            brokers, besides = (
                [f"{url}/{at}" for at in numbers],
                [f"{url}/{at + 1}" for at in numbers],
            )
            if queue == "rabbitmq":
                # One lane for each virtual host that is given.
                brokers = _given("BYOK_TEST_AMQP_URL")
                stack.enter_context(alone("rabbitmq"))
            lanes = min(most, len(brokers))
            for lane in range(lanes):
                stack.enter_context(alone(f"redis-{lane}"))
        databases = ["sqlite"] * lanes
        if store == "postgresql":
            server = (
                stack.enter_context(run_postgresql())
                if queue == "valkey"
                else _given("BYOK_TEST_DATABASE_URL")[0].replace("+psycopg", "")
            )
            databases = [stack.enter_context(new_database(server)) for _ in range(lanes)]
        yield [
            Services(broker, beside, database)
            for broker, beside, database in zip(brokers, besides, databases, strict=False)
        ]


_place: Place


def open_lane(lanes: "Queue[Services]", directory: Path) -> None:
    """Take services, in a process of the lane's own."""
    global _place  # noqa: PLW0603 -- the process is the lane
    _place = Place(lanes.get(), SandboxServer().start(), directory / str(os.getpid()))


def live(ends: dict[str, list[str]]) -> tuple[Lived | None, Tried]:
    """Live a history in this lane."""
    began = time.monotonic()
    lived, wrong = None, None
    try:
        lived = _place.live(ends)
    except AssertionError as error:
        wrong = f"WRONG: {str(error) or 'the audit'} (files: {_place.last})"
    ended = lived.ended if lived else {}
    return lived, Tried(
        ends, {n: e for n, e in ended.items() if e}, wrong, time.monotonic() - began
    )
