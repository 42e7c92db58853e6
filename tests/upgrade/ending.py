"""How what `record.py` recorded comes to its end, in whichever version runs it.

It is run in older versions, too (`older.py`), so it speaks to nothing newer than the recordings.
"""

from collections.abc import Callable
from typing import Any

from tests.road import Road
from workers.effects import SystemEffects

SOON = 12_000
"""Milliseconds from the recording to the upgrade: its processes are dead, what waits for its
account waits on."""
LATER = 180_000
"""All that waited for its time is due."""

RUN_ON = {
    "waiting-rate": "slow",
    "waiting-verdict": "late",
    "running-own-key": "acme",
    "running-platform": "bare",
    "waiting-account": "early",
}
"""Requests that the store had and that had not ended, and whose they are."""

QUEUED = {"queued-own-key": "acme", "queued-platform": "bare"}
"""Requests that no worker had taken."""


class Clock:
    """The system's time, by which a recording was made just now."""

    def __init__(self, starts_at: int, patch: Callable[[Any, str, Any], None] = setattr) -> None:
        real = SystemEffects().now_ms
        self._ahead = starts_at - real()
        patch(SystemEffects, "now_ms", lambda _: real() + self._ahead)

    def pass_time(self, milliseconds: int) -> None:
        """Move on."""
        self._ahead += milliseconds


def bring_to_its_end(road: Road, clock: Clock, *, queued: bool) -> None:
    """Let what is due now and later be done, and all of it come onto the ledger."""
    # The account whose events came ahead of it.
    road.account("early", credits=10)
    road.until(lambda: (key := road.key("key-early")) is not None and key.status == "valid")
    # With nothing under way: a process would lose its lease, and its calls would count as lost.
    road.stop_working()
    clock.pass_time(LATER)
    road.start()
    for request_id, account in (RUN_ON | (QUEUED if queued else {})).items():
        found = road.ended(request_id, account)
        assert (found.state, found.reason) == ("completed", ""), request_id
    road.until(lambda: (key := road.key("key-late")) is not None and key.status == "valid")
    road.settled_ledger()
    for queue in ("accounts", "keys", "validations", "analyses", "usage"):
        road.until(lambda name=queue: road.unacknowledged(name) == 0)
