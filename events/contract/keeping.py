"""What was released is kept: a vector is taken over by its name, and only new names are made."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from events.envelope import EventRefused

Vector = dict[str, Any]


class Changed(ValueError):
    """A sample differs from what was released under its name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The vector {name!r} was released with other content, and old vectors must still be "
            "read: give the changed sample a new name."
        )
        self.name = name


def by_name(vectors: Iterable[Vector]) -> dict[str, Vector]:
    """Vectors by their names."""
    return {vector["name"]: vector for vector in vectors}


def merged(kept: Mapping[str, Vector], made: Iterable[Vector]) -> list[Vector]:
    """What was kept, in its order, then what is new. Raises `Changed`."""
    fresh = by_name(made)
    for name, vector in fresh.items():
        if kept.get(name, vector) != vector:
            raise Changed(name)
    return [*kept.values(), *(vector for name, vector in fresh.items() if name not in kept)]


def refusal_of(act: Callable[[], object]) -> tuple[str, str]:
    """Reason and sentence of the refusal that `act` ends in; both empty where it is accepted."""
    try:
        act()
    except EventRefused as refused:
        return refused.reason, refused.sentence
    return "", ""


def required(vector: Vector, reason: str, sentence: str) -> list[str]:
    """What is wrong where a refused vector was refused with `reason` and `sentence`."""
    if reason != vector["reason"]:
        return [f"is {reason or 'accepted'}, and must be refused as {vector['reason']}"]
    if sentence != vector["sentence"]:
        return ["is refused with another sentence"]
    return []
