"""The schedule of a run: which fault comes when, drawn from the seed alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.faults import Fault

FIRST_SECONDS = 3.0
GAP_SECONDS = (3.0, 6.0)


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, after how many seconds of calm, and how many seconds it stands."""

    fault: Fault
    calm: float
    seconds: float


def schedule(seed: int, seconds: float, faults: Sequence[Fault]) -> list[Planned]:
    """Faults that fill so many seconds: each once in the seed's order, then each once more, …

    The same seed, seconds and faults give the same schedule.
    """
    chance = random.Random(seed)
    planned: list[Planned] = []
    left = seconds - FIRST_SECONDS
    order: list[Fault] = []
    while True:
        if not order:
            order = chance.sample(faults, len(faults))
        fault = order.pop()
        calm, stands = chance.uniform(*GAP_SECONDS), chance.uniform(*fault.lasts)
        left -= calm + stands
        if left < 0 and planned:
            return planned
        planned.append(Planned(fault, round(calm, 1), round(stands, 1)))
