"""Histories that a seed makes up, in each of which every invariant has to hold.

`make simulate SEED=…` tells what happens in one of them, `make simulate SEEDS=…` runs on.
"""

from collections.abc import Iterator

import pytest

from tests.simulation.simulation import Simulation, Store, quiet

HISTORIES = 80
EACH = 10
FLOODS = 12


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with quiet():
        yield Store()


@pytest.mark.parametrize("first", range(0, HISTORIES, EACH))
def test_whatever_happens_the_invariants_hold_and_all_drains(store: Store, first: int) -> None:
    for seed in range(first, first + EACH):
        failures = Simulation(seed, store).run()
        assert not failures, f"make simulate SEED={seed}: {failures[0]}"


def test_a_flood_delays_no_other_account_and_no_consent_or_removal(store: Store) -> None:
    waited = []
    for seed in range(FLOODS):
        simulation = Simulation(seed, store, flooded=True)
        failures = simulation.run()
        assert not failures, f"make simulate SEED={seed} ARGS=--flooded: {failures[0]}"
        waited += simulation.flood.beside
    assert len(waited) > FLOODS


def test_a_seed_replays_its_history_to_the_letter(store: Store) -> None:
    once, again = Simulation(7, store), Simulation(7, store)
    once.run()
    again.run()
    assert len(once.world.trace) > 20
    assert once.world.trace == again.world.trace
    assert once.world.steps == again.world.steps
