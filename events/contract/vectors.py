"""The test vectors: made, and checked against our own code."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.contract import testkeys
from events.contract.carried import check_event, make_events
from events.contract.keeping import by_name
from events.contract.refused import check_refused, make_refused
from events.contract.samples import NOW
from events.contract.sealed import check_sealed, check_unsealable, make_sealed, make_unsealable

Vectors = dict[str, Any]
"""The content of `vectors.json`."""

ABOUT = """\
Test vectors of the BYOK events. asyncapi.json tells how an event is sealed, signed and queued.
`sealing` must open; where an ephemeral key is given, sealing with it gives the same bytes.
`sealing_refused` must not open for its `info`.
`events` must be read by a reader that holds `keys` and whose clock says `now`.
`events_refused` must be refused, each at its own `now`; a large text is only described.
Reasons are part of the contract; sentences are for people and may change.
A vector in `sealing` or `events` that was released is never changed and never dropped.
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one vector."""

    group: str
    name: str
    expected: str
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether our code does what the vector says."""
        return not self.problems


def make_vectors(kept: Vectors | None = None) -> Vectors:
    """The vectors, with everything that `kept` holds. Raises `keeping.Changed`."""
    before = kept or {}
    sealing = make_sealed(by_name(before.get("sealing", ())))
    values = {vector["name"]: vector["sealed"] for vector in sealing}
    events = make_events(by_name(before.get("events", ())), values)
    return {
        "about": ABOUT.splitlines(),
        "now": NOW,
        "keys": testkeys.as_json(),
        "sealing": sealing,
        "sealing_refused": make_unsealable(values),
        "events": events,
        "events_refused": make_refused(by_name(events)),
    }


def check_vectors(vectors: Vectors) -> list[Checked]:
    """Do with our own code what each vector says."""
    keys = testkeys.held(vectors["keys"])
    sources = testkeys.believed(vectors["keys"])
    now = datetime.fromisoformat(vectors["now"])
    return [
        *(
            Checked("sealing", vector["name"], "opens", check_sealed(vector, keys))
            for vector in vectors["sealing"]
        ),
        *(
            Checked(
                "sealing_refused", vector["name"], vector["reason"], check_unsealable(vector, keys)
            )
            for vector in vectors["sealing_refused"]
        ),
        *(
            Checked(
                "events",
                vector["name"],
                f"read from {vector['queue']}",
                check_event(
                    vector,
                    testkeys.signer(vectors["keys"], vector["event"]["source"]),
                    sources,
                    now,
                ),
            )
            for vector in vectors["events"]
        ),
        *(
            Checked(
                "events_refused", vector["name"], vector["reason"], check_refused(vector, sources)
            )
            for vector in vectors["events_refused"]
        ),
    ]
