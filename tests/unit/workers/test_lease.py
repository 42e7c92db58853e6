"""This process's lease: without it nothing new is started."""

import threading

import pytest
from sqlalchemy.exc import OperationalError

from store import leases
from store.engine import Database
from tests.unit.workers.standins import Clockwork
from workers.effects import SystemEffects
from workers.lease import Lease, LeaseLost


@pytest.fixture
def clock() -> Clockwork:
    return Clockwork()


@pytest.fixture
def lease(store: Database, clock: Clockwork) -> Lease:
    """A lease that is renewed by hand."""
    made = Lease(store, clock, "worker")
    made.renew()
    return made


def holder(lease: Lease, store: Database) -> str:
    with store.write() as connection:
        return lease.holder(connection)


def alive(store: Database, clock: Clockwork) -> dict[str, int]:
    with store.read() as connection:
        return leases.live_roles(connection, clock.now)


def test_a_process_works_under_its_lease(store: Database, clock: Clockwork, lease: Lease) -> None:
    assert holder(lease, store) == holder(lease, store)
    assert alive(store, clock) == {"worker": 1}


def test_without_a_lease_nothing_is_started(store: Database, clock: Clockwork) -> None:
    with pytest.raises(LeaseLost):
        holder(Lease(store, clock, "worker"), store)


def test_a_lease_that_was_not_renewed_in_time_is_lost_until_it_is(
    store: Database, clock: Clockwork, lease: Lease
) -> None:
    before = holder(lease, store)
    clock.pass_time(leases.DEAD_AFTER_SECONDS)
    assert holder(lease, store) == before
    clock.pass_time(0.001)
    with pytest.raises(LeaseLost):
        holder(lease, store)
    lease.renew()
    assert holder(lease, store) == before


def test_a_renewed_lease_goes_on(store: Database, clock: Clockwork, lease: Lease) -> None:
    before = holder(lease, store)
    for _ in range(10):
        clock.pass_time(leases.RENEW_SECONDS)
        lease.renew()
    assert holder(lease, store) == before
    assert alive(store, clock) == {"worker": 1}


def take_over(store: Database, process_id: str, now: int) -> None:
    with store.write() as connection:
        leases.end(connection, process_id, now)


def test_a_lease_that_was_taken_over_is_lost_at_once(
    store: Database, clock: Clockwork, lease: Lease
) -> None:
    take_over(store, holder(lease, store), clock.now)
    with pytest.raises(LeaseLost):
        holder(lease, store)


def test_after_a_take_over_the_process_works_under_another_id(
    store: Database, clock: Clockwork, lease: Lease
) -> None:
    before = holder(lease, store)
    take_over(store, before, clock.now)
    lease.renew()
    assert holder(lease, store) != before
    assert alive(store, clock) == {"worker": 1}


def test_a_renewal_that_fails_leaves_the_lease_as_it_was(
    store: Database, clock: Clockwork, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = holder(lease, store)

    def away(*arguments: object) -> bool:
        raise OperationalError("", None, Exception("away"))

    with monkeypatch.context() as patched:
        patched.setattr("store.leases.renew", away)
        clock.pass_time(leases.DEAD_AFTER_SECONDS - 1)
        with pytest.raises(OperationalError):
            lease.renew()
    assert holder(lease, store) == before
    clock.pass_time(2)
    with pytest.raises(LeaseLost):
        holder(lease, store)


def test_a_process_that_stops_ends_its_lease(store: Database) -> None:
    lease = Lease(store, SystemEffects(), "worker")
    lease.start()
    process_id = holder(lease, store)
    lease.release()
    with store.write() as connection:
        assert not leases.hold(connection, process_id)
    with pytest.raises(LeaseLost):
        holder(lease, store)


@pytest.mark.parametrize(
    "error", [OperationalError("", None, Exception("away")), RuntimeError("no one expected this")]
)
def test_the_heartbeat_survives_a_renewal_that_fails(
    store: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    renewed = threading.Event()
    errors = [error, error]
    clock = Clockwork(on_wait=lambda _seconds: renewed.wait(0))
    lease = Lease(store, clock, "worker")

    def renew() -> None:
        if errors:
            raise errors.pop()
        renewed.set()

    monkeypatch.setattr(lease, "renew", renew)
    lease.start()
    assert renewed.wait(30)
    lease.release()
    assert clock.waits[0] == leases.RENEW_SECONDS
