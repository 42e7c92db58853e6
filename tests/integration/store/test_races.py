"""Two connections at once on PostgreSQL: what the later one sees, and that no write is lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, text

from events import AccountUpdated, CreditPeriod
from store import accounts, analyses, credits, gate, keys, leases, migrate
from store.engine import Database
from tests.conftest import new_database

NOW = 1_800_000_000_000


@pytest.fixture
def database(postgresql: str) -> Iterator[Database]:
    """A PostgreSQL database with the schema."""
    with new_database(postgresql) as url:
        opened = Database(url)
        migrate.upgrade(opened)
        yield opened
        opened.close()


def update_of(revision: int, *, consent: bool, credits_limit: int = 5) -> AccountUpdated:
    """An account's state at a revision."""
    return AccountUpdated(
        revision=revision,
        plan="business",
        ai_consent=consent,
        credits=credits_limit,
        credit_period=CreditPeriod(
            start=datetime(2027, 1, 1, tzinfo=UTC), end=datetime(2027, 2, 1, tzinfo=UTC)
        ),
    )


def waiting_for_locks(database: Database) -> int:
    """How many connections wait for a lock."""
    with database.read() as connection:
        return connection.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        ).scalar_one()


def until(holds: Callable[[], object]) -> None:
    """Look until `holds`; fail after 20 s."""
    pause = threading.Event()
    for _ in range(2000):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("did not come to hold")


class Side:
    """One of the two: a transaction that is open for as long as the test wants."""

    def __init__(self, database: Database, pool: ThreadPoolExecutor) -> None:
        self._stack = ExitStack()
        self._pool = pool
        self.connection = self._stack.enter_context(database.write())

    def start(self, act: Callable[[Connection], bool | None]) -> "Future[bool | None]":
        """Run a statement that may have to wait."""
        return self._pool.submit(act, self.connection)

    def commit(self) -> None:
        """End the transaction."""
        self._stack.close()


@pytest.fixture
def two(database: Database) -> Iterator[tuple[Side, Side]]:
    """Two open transactions."""
    with ThreadPoolExecutor(2) as pool:
        sides = Side(database, pool), Side(database, pool)
        yield sides
        for side in sides:
            side.commit()


@pytest.mark.parametrize("first", [1, 2])
def test_of_two_first_updates_at_once_the_higher_revision_stays(
    database: Database, two: tuple[Side, Side], first: int
) -> None:
    early, late = two
    second = 3 - first
    consents = {1: True, 2: False}
    accounts.apply_update(
        early.connection, "acme", f"e{first}", update_of(first, consent=consents[first]), NOW
    )
    other = late.start(
        lambda c: accounts.apply_update(
            c, "acme", f"e{second}", update_of(second, consent=consents[second]), NOW
        )
    )
    until(lambda: waiting_for_locks(database) == 1)
    early.commit()
    assert other.result(20) is (second > first)
    late.commit()
    with database.read() as connection:
        account = accounts.find(connection, "acme")
    assert account is not None
    assert (account.revision, account.ai_consent) == (2, False)


def test_of_an_addition_and_a_removal_at_once_the_higher_revision_stays(
    database: Database, two: tuple[Side, Side]
) -> None:
    early, late = two
    slot = {"account_id": "acme", "provider": "openai"}
    keys.take_slot(early.connection, **slot, key_id=None, revision=6, event_id="removed")
    added = late.start(
        lambda c: keys.take_slot(c, **slot, key_id="k1", revision=5, event_id="added")
    )
    until(lambda: waiting_for_locks(database) == 1)
    early.commit()
    assert added.result(20) is False


def test_the_last_credit_goes_to_one_of_two_claims(
    database: Database, two: tuple[Side, Side]
) -> None:
    with database.write() as connection:
        accounts.apply_update(
            connection, "acme", "e1", update_of(1, consent=True, credits_limit=1), NOW
        )
        account = accounts.find(connection, "acme")
    assert account is not None
    known = account
    early, late = two
    assert credits.reserve(early.connection, known)
    other = late.start(lambda c: credits.reserve(c, known))
    until(lambda: waiting_for_locks(database) == 1)
    early.commit()
    assert other.result(20) is False


def test_a_withdrawal_waits_for_a_claim_under_way_and_the_next_claim_waits_for_it(
    database: Database, two: tuple[Side, Side]
) -> None:
    claim, withdrawal = two
    gate.share(claim.connection, "acme")
    withdrawn = withdrawal.start(lambda c: gate.alone(c, "acme"))
    until(lambda: waiting_for_locks(database) == 1)
    with ThreadPoolExecutor(1) as pool:

        def next_claim() -> bool:
            with database.write() as connection:
                gate.share(connection, "acme")
                return withdrawn.done()

        # It comes after the withdrawal though the claim under way would let it through: a stream
        # of claims keeps nobody waiting.
        following = pool.submit(next_claim)
        until(lambda: waiting_for_locks(database) == 2)
        claim.commit()
        withdrawn.result(20)
        withdrawal.commit()
        assert following.result(20) is True


def test_a_lease_that_a_claim_holds_is_not_ended_before_the_claim_commits(
    database: Database, two: tuple[Side, Side]
) -> None:
    with database.write() as connection:
        leases.register(connection, "p1", role="worker", host="h", pid=1, now=NOW)
        connection.execute(text("UPDATE processes SET heartbeat_at = 0"))
    claim, sweep = two
    assert leases.hold(claim.connection, "p1")
    ended = sweep.start(lambda c: leases.end_if_dead(c, "p1", NOW))
    until(lambda: waiting_for_locks(database) == 1)
    claim.commit()
    assert ended.result(20) is True
    sweep.commit()
    with database.write() as connection:
        assert not leases.hold(connection, "p1")


def test_the_same_request_from_two_workers_is_accepted_once(
    database: Database, two: tuple[Side, Side]
) -> None:
    request = analyses.NewRequest(
        account_id="acme",
        request_id="r1",
        event_id="e1",
        digest=b"d",
        operation="classify",
        provider_wanted="auto",
        model_wanted=None,
        input=b"i",
        created_at=NOW,
        expires_at=NOW + 1000,
    )
    early, late = two
    assert analyses.accept(early.connection, request)
    other = late.start(lambda c: analyses.accept(c, request))
    until(lambda: waiting_for_locks(database) == 1)
    early.commit()
    assert other.result(20) is False
