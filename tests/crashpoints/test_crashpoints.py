"""Wherever a worker or a scheduler ends, it is started again, all ends, and the books are right.

A few boundaries here; `make crashpoints` goes over all of them on all services.
"""

import random
from pathlib import Path

import pytest

from deploy.local.sandbox import SandboxServer
from tests.conftest import Services
from tests.crashpoints.lives import ROLES
from tests.crashpoints.places import Place

HISTORIES = 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
def test_a_worker_and_a_scheduler_that_end_at_a_boundary_lose_and_repeat_nothing(
    services: Services, sandbox: SandboxServer, tmp_path: Path
) -> None:
    place = Place(services, sandbox, tmp_path / "histories")
    met = place.live({}).boundaries
    chance = random.Random(1)
    for _ in range(HISTORIES):
        ends = {role: [chance.choice(met[role])] for role in ROLES}
        assert set(place.live(ends).ended) == set(ROLES)
