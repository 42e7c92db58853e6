"""A short run of the chaos harness, and that its audit would see what it looks for."""

from pathlib import Path

import pytest

from tests.chaos.audit import Report, audit
from tests.chaos.faults import FAULTS
from tests.chaos.run import Ran, run
from tests.chaos.schedule import schedule
from tests.chaos.services import Sqlite

SHORT = ("SIGKILL worker", "provider resets", "broker back empty")
SECONDS = 18.0


def test_a_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    one, same, other = (schedule(seed, 600, FAULTS) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert {planned.fault.name for planned in one} == {fault.name for fault in FAULTS}


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_paid_twice_through_kills_and_a_lost_broker(
    tmp_path: Path,
) -> None:
    reports: list[Report] = []

    def look(ran: Ran) -> None:
        reports.append(audit(ran))

    run(
        tmp_path,
        look,
        seed=1,
        seconds=SECONDS,
        make_store=Sqlite,
        faults=[fault for fault in FAULTS if fault.name in SHORT],
        rate=5,
        workers=1,
    )
    (report,) = reports
    assert report.wrong == []
    assert sum(row.accepted for row in report.rows.values()) > 20
    assert report.billed >= report.booked > 0
