"""A short run of the chaos harness, and that its audit sees what it looks for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.chaos.audit import Report, audit
from tests.chaos.faults import FAULTS
from tests.chaos.run import Ran, run
from tests.chaos.schedule import schedule
from tests.chaos.services import Sqlite
from tests.simulation.oracle import TERMINAL_EVENTS

SHORT = ("SIGKILL worker", "broker back empty")
SECONDS = 14.0


def test_a_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    one, same, other = (schedule(seed, 600, FAULTS) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert {planned.fault.name for planned in one} == {fault.name for fault in FAULTS}


def tampered(sql: str) -> Callable[[Ran], None]:
    def act(ran: Ran) -> None:
        with ran.system.road.app.database.write() as connection:
            connection.execute(text(sql))

    return act


def tell_twice(ran: Ran) -> None:
    seen = ran.system.follower.seen
    seen["another"] = next(event for event in seen.values() if event[0] in TERMINAL_EVENTS)


def accept_one_more(ran: Ran) -> None:
    one = next(one for one in ran.load.numbered if one.is_analysis)
    one.about = "acknowledged-and-gone"


ONE = "(SELECT min(id) FROM ledger WHERE kind = 'call')"

AGAINST = (
    (tell_twice, "was told to have ended 2 times"),
    (accept_one_more, "was acknowledged and is not in the store"),
    (tampered("UPDATE credit_periods SET used = used + 1"), "credits for"),
    (tampered("UPDATE credit_periods SET reserved = 1"), "reserved for good"),
    (tampered(f"UPDATE ledger SET output_tokens = 0 WHERE id = {ONE}"), "has other tokens"),
    (tampered(f"UPDATE ledger SET provider_request_id = 'no' WHERE id = {ONE}"), "not on the bill"),
    (
        tampered(
            "UPDATE ledger SET request_id = (SELECT max(request_id) FROM ledger WHERE completes)"
            f" WHERE id = {ONE}"
        ),
        "is on the ledger twice",
    ),
    (tampered("DELETE FROM ledger"), "are on the bill alone"),
    (tampered("UPDATE analyses SET state = 'failed', reason = 'worker_lost'"), "failed after"),
    (tampered("UPDATE analyses SET state = 'waiting'"), "was acknowledged and is waiting"),
)
"""What is done to books that hold, and what the audit must then say."""


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_paid_twice_through_kills_and_a_lost_broker(
    tmp_path: Path,
) -> None:
    reports: list[Report] = []

    def look(ran: Ran) -> None:
        reports.append(audit(ran))
        for role in ran.system.roles:
            # What is done to the books now is not theirs to mend.
            role.stop()
        for act, sentence in AGAINST:
            act(ran)
            assert any(sentence in wrong for wrong in audit(ran).wrong), sentence

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
    report = reports[0]
    assert report.wrong == []
    assert set(report.rows) == set(SHORT)
    assert sum(row.accepted for row in report.rows.values()) > 20
    assert report.billed >= report.booked > 0
    # The broker alone held something, and whoever asked for `claimed` sent it again.
    assert report.told_to_send_again + report.rows["broker back empty"].alone > 0
