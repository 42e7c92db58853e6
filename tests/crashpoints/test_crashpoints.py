"""Wherever a worker or a scheduler ends, it is started again, all ends, and the books are right."""

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.sandbox import SandboxServer
from tests.conftest import Services, _purge, new_database
from tests.crashpoints.lives import ROLES, Lived, live

PAIRS = 30


class Place:
    """Services on which one history after the other is lived."""

    def __init__(self, services: Services, sandbox: SandboxServer, directory: Path) -> None:
        self._services, self._sandbox, self._directory = services, sandbox, directory
        self._count = 0

    def live(self, ends: dict[str, list[int]]) -> Lived:
        self._count += 1
        directory = self._directory / str(self._count)
        directory.mkdir()
        if self._services.broker.startswith("amqp"):
            _purge(self._services.broker)
        with ExitStack() as stack:
            database = f"sqlite:///{directory / 'byok.sqlite3'}"
            if not self._services.database.startswith("sqlite"):
                server = self._services.database.replace("+psycopg", "")
                database = stack.enter_context(new_database(server))
            return live(
                directory,
                broker=self._services.broker,
                beside=self._services.redis,
                database=database,
                sandbox=self._sandbox,
                ends=ends,
            )


@pytest.fixture
def place(services: Services, sandbox: SandboxServer, tmp_path: Path) -> Place:
    return Place(services, sandbox, tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
def test_a_worker_and_a_scheduler_that_end_at_a_boundary_lose_and_repeat_nothing(
    place: Place,
) -> None:
    # The worker while analyses are under way, the scheduler while it relays.
    lived = place.live({"worker": [70], "scheduler": [19]})
    assert lived.ended == {"worker": [70], "scheduler": [19]}


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_at_every_boundary_and_at_pairs_of_them(place: Place) -> None:
    counted = place.live({}).boundaries
    wrong: list[str] = []

    def lived(ends: dict[str, list[int]]) -> None:
        try:
            place.live(ends)
        except AssertionError as error:
            wrong.append(f"{ends}: {error}")
        print(f"{ends}: {'WRONG' if wrong and str(ends) in wrong[-1] else 'holds'}", flush=True)

    for role in ROLES:
        for number in range(1, len(counted[role]) + 1):
            lived({role: [number]})
    chance = random.Random(1)
    for _ in range(PAIRS):
        lived({role: [chance.randint(1, len(counted[role])) for _ in range(2)] for role in ROLES})
    assert wrong == []
