"""A claim whose commit nobody heard of is undone by the process that made it, at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tests.unit.workers.analyses.test_attempts import Desk, open_desk
from workers.analyses.run import resume
from workers.app import App

Happens = Callable[[], None]


@pytest.fixture(params=["by steps", "straight"])
def desk(request: pytest.FixtureRequest, app: App) -> Desk:
    """A desk whose next claim goes by steps, as an account's first does, or straight."""
    opened = open_desk(app)
    if request.param == "straight":
        assert opened.ask("req-0").state == "completed"
        opened.provider.keys_seen.clear()
    return opened


@contextmanager
def commits_fail(
    app: App, monkeypatch: pytest.MonkeyPatch, *, made: bool, then: Happens = lambda: None
) -> Iterator[None]:
    """The next transaction that writes is committed (`made`) or not, and its maker hears an error.

    `then` happens before it hears.
    """
    write = app.database.write
    left = [1]

    @contextmanager
    def failing() -> Iterator[Connection]:
        with write() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            before = driver.total_changes
            yield connection
            fails = driver.total_changes > before and bool(left) and bool(left.pop())
            if fails and not made:
                raise lost
        if fails:
            then()
            raise lost

    lost = OperationalError("COMMIT", {}, ConnectionError("server closed the connection"))
    monkeypatch.setattr(app.database, "write", failing)
    with pytest.raises(OperationalError):
        yield
    monkeypatch.undo()


def test_a_first_claim_that_was_made_unheard_waits_again_and_is_run_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, _ = desk.credits()
    with commits_fail(desk.app, monkeypatch, made=True):
        desk.ask()
    request = desk.request()
    assert (request.state, request.reason, request.due_at) == (
        "waiting",
        "claim_unheard",
        desk.app.effects.now_ms(),
    )
    # It was not sent, so it is not on the list of lost answers, and holds no credit.
    assert desk.attempts() == ["failed"]
    assert not desk.provider.keys_seen
    assert desk.credits() == (used, 0)
    assert desk.resume().state == "completed"
    assert desk.credits() == (used + 1, 0)
    assert len(desk.provider.keys_seen) == 1


def test_a_claim_that_was_not_made_is_forgotten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commits_fail(desk.app, monkeypatch, made=False):
        desk.ask()
    assert desk.ask().state == "completed"
    assert desk.attempts() == ["answered"]


def test_the_claim_that_another_made_instead_is_left_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commits_fail(desk.app, monkeypatch, made=True):
        desk.ask()

    def others() -> None:
        """What a claim that was rolled back finds: the same number, claimed by another process."""
        with desk.app.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE attempts SET process_id = 'other' WHERE attempt = 2")
            connection.exec_driver_sql("UPDATE analyses SET process_id = 'other'")

    with commits_fail(desk.app, monkeypatch, made=True, then=others):
        resume(desk.app, "acme", "req-1")
    assert desk.attempts() == ["failed", "started"]
    assert desk.request().state == "running"
