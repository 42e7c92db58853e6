"""Whatever is killed, and whenever: everything ends, is counted once, and the bill is explained."""

import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from store import outbox
from store.analyses import Request
from tests.integration.process.bill import (
    Books,
    assert_counted_once,
    assert_credits_are_settled,
    assert_the_ledger_is_the_bill,
)
from tests.integration.process.dying.sitecustomize import (
    AFTER_COMMIT,
    BEFORE_COMMIT,
    BEFORE_VERDICT,
    DATABASE_AWAY,
)
from tests.integration.process.running import Up, until

OWN_KEY = "sk-proj-sandbox-good-not-a-real-key-kills"
PROBED_KEY = "sk-proj-sandbox-restricted-not-a-real-key-kills"
"""One that only a billed call proves."""


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that sets a trap in the worker."""
    return tmp_path_factory.mktemp("traps") / "trap"


@pytest.fixture(scope="module")
def up_environment(trap: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parent / "dying"), "TRAP": str(trap)}


@pytest.fixture(scope="module")
def pasted(up: Up) -> dict[str, str]:
    """The keys of the account `own`, by key id; the account `platform` has none, and credits."""
    up.road.account("own")
    up.road.account("platform", credits=50)
    return {up.road.give_key(OWN_KEY, "own"): OWN_KEY}


def ask_each(up: Up, count: int) -> list[tuple[str, str]]:
    """Ask for `count` analyses of each account, as (request, account)."""
    # Each of another mail: an earlier one's result would answer for it.
    return [
        (up.road.ask(account), account) for account in ("own", "platform") for _ in range(count)
    ]


def await_restart(up: Up, role: str, died: psutil.Process) -> None:
    """Wait until `byok up` has started another process for a role."""
    until(
        lambda: any(process.pid != died.pid for process in up.children(role)),
        f"another {role} is started",
    )


@dataclass(frozen=True, slots=True)
class Killed:
    """What was asked for before each of three workers was killed, as (request, account)."""

    in_its_calls: list[tuple[str, str]]
    before_a_commit: list[tuple[str, str]]
    after_a_commit: list[tuple[str, str]]
    probed: str
    """The key whose billed validation was not written down."""

    @property
    def all(self) -> list[tuple[str, str]]:
        return [*self.in_its_calls, *self.before_a_commit, *self.after_a_commit]


@pytest.fixture(scope="module")
def killed(up: Up, pasted: dict[str, str], trap: Path) -> Killed:
    """Three workers killed one after the other, so that their leases run out side by side."""
    # Nothing is run again until all are dead, however long that takes here: so the calls that are
    # on their way at a kill are those of its own test.
    scheduler = up.child("scheduler")
    until(lambda: froze_between_writes(up, scheduler), "the scheduler is frozen and locks nothing")
    try:
        return Killed(
            after_a_commit=kill_after_a_commit(up, trap),
            in_its_calls=kill_in_its_calls(up),
            before_a_commit=kill_before_a_commit(up, trap),
            probed=kill_before_a_verdict(up, trap, pasted),
        )
    finally:
        scheduler.resume()


def froze_between_writes(up: Up, process: psutil.Process) -> bool:
    """Freeze a process, unless it is writing to the database just then: all others would wait."""
    process.suspend()
    database = sqlite3.connect(up.state_dir / "byok.sqlite3", timeout=1, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        process.resume()
        return False
    finally:
        database.close()
    return True


def kill_after_a_commit(up: Up, trap: Path) -> list[tuple[str, str]]:
    worker = up.child("worker")
    trap.write_text(AFTER_COMMIT)
    asked = [(up.road.ask("platform"), "platform")]
    await_restart(up, "worker", worker)
    assert up.on_queues(), "the message was acknowledged: this kill came too late"
    return asked


def kill_in_its_calls(up: Up) -> list[tuple[str, str]]:
    up.sandbox.gate(closed=True)
    asked = ask_each(up, 4)
    up.sandbox.wait_in_flight(len(asked))
    worker = up.child("worker")
    worker.kill()
    up.sandbox.gate(closed=False)
    await_restart(up, "worker", worker)
    up.sandbox.wait_idle()
    return asked


def kill_before_a_commit(up: Up, trap: Path) -> list[tuple[str, str]]:
    up.sandbox.gate(closed=True)
    asked = ask_each(up, 2)
    up.sandbox.wait_in_flight(len(asked))
    worker = up.child("worker")
    trap.write_text(BEFORE_COMMIT)
    up.sandbox.gate(closed=False)
    await_restart(up, "worker", worker)
    up.sandbox.wait_idle()
    return asked


def kill_before_a_verdict(up: Up, trap: Path, pasted: dict[str, str]) -> str:
    up.road.account("probed")
    worker = up.child("worker")
    trap.write_text(BEFORE_VERDICT)
    key_id = up.road.give_key(PROBED_KEY, "probed", settled=False)
    await_restart(up, "worker", worker)
    pasted[key_id] = PROBED_KEY
    return key_id


def unknown_of(books: Books, asked: list[tuple[str, str]]) -> Counter[str]:
    """How many attempts of each request are `unknown`."""
    ids = {request_id for request_id, _ in asked}
    return Counter(row.request_id for row in books.unknown if row.request_id in ids)


def assert_nothing_was_lost(
    up: Up, asked: list[tuple[str, str]], pasted: dict[str, str]
) -> list[Request]:
    """Everything ended and was told of, is counted once, and every billed call is explained."""
    ended = [up.road.ended(request_id, account) for request_id, account in asked]
    # What a dead worker had taken from the broker has come again, too, once these are empty.
    up.await_queues()
    books = Books.of(up)
    assert_counted_once(books)
    assert_the_ledger_is_the_bill(books, pasted)
    assert_credits_are_settled(up, "own")
    assert_credits_are_settled(up, "platform")
    # The stream may repeat an event, by the same id.
    events = {event["id"]: event for event in up.road.out_events("analysis.completed")}
    told = Counter(event["data"]["request_id"] for event in events.values())
    assert {told[request.request_id] for request in ended} == {1}
    return ended


def test_after_the_kills_all_ended_is_counted_once_and_the_bill_is_explained(
    up: Up, pasted: dict[str, str], killed: Killed
) -> None:
    ended = assert_nothing_was_lost(up, killed.all, pasted)
    assert {request.state for request in ended} == {"completed"}
    assert up.metric("byok_lease_takeovers_total") >= 3
    assert up.metric("byok_attempts_unknown_total") == len(Books.of(up).unknown)


def test_each_call_of_a_worker_killed_in_its_calls_is_unknown_and_was_made_again(
    up: Up, killed: Killed
) -> None:
    ended = [up.road.ended(*one) for one in killed.in_its_calls]
    assert [request.attempt for request in ended] == [2] * 8
    lost = unknown_of(Books.of(up), killed.in_its_calls)
    assert lost == Counter(request_id for request_id, _ in killed.in_its_calls)


def test_a_call_answered_and_not_committed_is_unknown_and_was_made_again(
    up: Up, killed: Killed
) -> None:
    ended = [up.road.ended(*one) for one in killed.before_a_commit]
    lost = unknown_of(Books.of(up), killed.before_a_commit)
    # The trap goes off at one answer; another may have been committed in the same moment.
    assert lost
    assert {request.attempt - lost[request.request_id] for request in ended} == {1}


def test_a_call_that_was_committed_is_not_made_again_though_its_message_comes_again(
    up: Up, killed: Killed
) -> None:
    (request,) = (up.road.ended(*one) for one in killed.after_a_commit)
    assert (request.state, request.attempt) == ("completed", 1)
    assert not unknown_of(Books.of(up), killed.after_a_commit)


def test_a_billed_validation_that_was_not_written_down_is_unknown_and_was_made_again(
    up: Up, killed: Killed
) -> None:
    until(lambda: (k := up.road.key(killed.probed)) and k.status == "valid", "the key is proved")
    books = Books.of(up)
    (lost,) = (row for row in books.unknown if row.key_id == killed.probed)
    assert lost.outcome == "worker_lost"
    assert [row.kind for row in books.ledger if row.key_id == killed.probed] == ["probe"]


def test_a_scheduler_killed_with_requests_parked_while_workers_send_what_they_commit(
    up: Up, pasted: dict[str, str]
) -> None:
    scheduler = up.child("scheduler")
    # Stopped first, so that what is to be left behind is there for sure when it is killed.
    until(lambda: froze_between_writes(up, scheduler), "the scheduler is frozen and locks nothing")
    up.sandbox.fault("ratelimited", key=OWN_KEY, endpoint="completion", count=2, retry_after=0.5)
    asked = [*ask_each(up, 3), (up.road.ask("late"), "late")]
    until(lambda: standing(up, asked)["waiting"] >= 3, "requests are parked")
    until(lambda: standing(up, asked)["completed"] >= 3, "requests are completed")
    until(lambda: not unsent(up), "what was completed is sent and counted without it")
    scheduler.kill()
    up.road.account("late")
    ended = assert_nothing_was_lost(up, asked, pasted)
    assert {request.state for request in ended} == {"completed"}
    assert_credits_are_settled(up, "late")


def unsent(up: Up) -> dict[str, tuple[int, int]]:
    with up.app.database.read() as connection:
        return outbox.backlog(connection)


def standing(up: Up, asked: list[tuple[str, str]]) -> Counter[str]:
    found = [up.road.request(request_id, account) for request_id, account in asked]
    return Counter(request.state for request in found if request is not None)


def test_a_message_that_a_stopping_worker_could_not_act_on_is_handled_by_the_next(
    up: Up, pasted: dict[str, str], trap: Path
) -> None:
    trap.write_text(DATABASE_AWAY)
    asked = [(up.road.ask("own"), "own")]
    warned = up.logged("database_unavailable")
    until(lambda: up.logged("database_unavailable") > warned, "the worker waits for the database")
    worker = up.child("worker")
    worker.terminate()
    trap.unlink()
    await_restart(up, "worker", worker)
    (request,) = assert_nothing_was_lost(up, asked, pasted)
    assert (request.state, request.attempt) == ("completed", 1)


def test_after_all_kills_the_audit_and_the_rebuild_find_nothing(
    up: Up, killed: Killed, pasted: dict[str, str]
) -> None:
    up.await_outbox()
    audited = up.json("usage", "audit")
    assert (audited["ok"], audited["findings"]) == (True, [])
    compared = {check["check"]: check["compared"] for check in audited["checks"]}
    # It looked at something, the sandbox's bill too.
    assert compared["requests"] >= len(killed.all)
    assert compared["sandbox bill"] > compared["attempts"] > 0
    assert audited["unknown_attempts"] == len(Books.of(up).unknown) > 0
    assert up.json("usage", "rebuild", "--check") == {
        "ok": True,
        "applied": False,
        "differences": [],
    }
