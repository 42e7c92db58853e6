"""Pauses in the store: who paused what, and what waited coming back bit by bit."""

from pathlib import Path

import pytest

from store import analyses, pauses
from store.analyses import NewRequest
from store.engine import Database
from tests.unit.workers.standins import START, clockwork_of, stand_in_app
from workers import scheduler
from workers.app import App


@pytest.fixture
def app(database: Database, tmp_path: Path) -> App:
    return stand_in_app(tmp_path, database)


def made(kind: str = "provider", name: str = "openai", at: int = START) -> pauses.Pause:
    return pauses.Pause(
        kind=kind, name=name, at=at, source="byok/cli#ann", note="incident 7", resumed_at=None
    )


def hold(database: Database, count: int, reason: str, account: str = "acme") -> None:
    """Let requests wait for the end of a pause."""
    with database.write() as connection:
        for number in range(count):
            request_id = f"{reason}-{number}"
            analyses.accept(
                connection,
                NewRequest(
                    account_id=account,
                    request_id=request_id,
                    event_id=request_id,
                    digest=b"",
                    operation="classify",
                    provider_wanted="openai",
                    model_wanted=None,
                    input=b"",
                    created_at=START,
                    expires_at=START + 86_400_000,
                ),
            )
            request = analyses.find(connection, account, request_id, lock=True)
            assert request is not None
            due = request.expires_at
            analyses.park(connection, request, reason=reason, due_at=due)


def held(database: Database) -> dict[tuple[str, str], int]:
    with database.read() as connection:
        return pauses.held_back(connection)


def test_pausing_twice_is_one_pause_and_the_log_has_each_change_once(database: Database) -> None:
    with database.write() as connection:
        assert pauses.pause(connection, made(), "1")
        assert not pauses.pause(connection, made(at=START + 1), "2")
        assert pauses.is_paused(connection, "provider", "openai")
        assert pauses.resume(connection, made(at=START + 2), "3")
        assert not pauses.resume(connection, made(at=START + 3), "4")
        assert not pauses.is_paused(connection, "provider", "openai")
        assert pauses.pause(connection, made(at=START + 4), "5")
        (standing,) = pauses.standing(connection)
        log = pauses.log(connection, 10)
    assert (standing.at, standing.resumed_at) == (START + 4, None)
    assert [(entry.action, entry.at - START) for entry in log] == [
        ("pause", 4),
        ("resume", 2),
        ("pause", 0),
    ]
    assert {(entry.source, entry.note) for entry in log} == {("byok/cli#ann", "incident 7")}


def test_only_what_waits_for_the_pause_that_ended_comes_back(app: App) -> None:
    database = app.database
    hold(database, 3, "paused_openai")
    hold(database, 2, "paused_anthropic")
    hold(database, 2, "paused_account", "acme")
    hold(database, 1, "paused_account", "other")
    with database.write() as connection:
        for kind, name in (("provider", "openai"), ("provider", "anthropic"), ("account", "acme")):
            pauses.pause(connection, made(kind, name), f"{name}-1")
        pauses.resume(connection, made(), "openai-2")
        pauses.resume(connection, made("account", "acme"), "acme-2")
    assert scheduler.paused_requests(app) == 5
    assert held(database) == {("provider", "anthropic"): 2, ("account", "other"): 1}


def test_what_waited_comes_back_slowly_at_first_and_then_faster(app: App) -> None:
    hold(app.database, 120, "paused_openai")
    with app.database.write() as connection:
        pauses.pause(connection, made(), "1")
        pauses.resume(connection, made(), "2")

    def back_within_a_second() -> int:
        back = 0
        for _ in range(10):
            back += scheduler.paused_requests(app)
            clockwork_of(app).pass_time(0.1)
        return back

    first = back_within_a_second()
    clockwork_of(app).pass_time(15)
    later = back_within_a_second()
    assert 15 <= first <= 30
    assert later >= 2 * first
    assert first + later + held(app.database)["provider", "openai"] == 120


def test_a_pause_that_is_over_is_forgotten_and_not_before(app: App) -> None:
    with app.database.write() as connection:
        pauses.pause(connection, made(), "1")
        pauses.resume(connection, made(), "2")
    clockwork_of(app).pass_time(14 * 60)
    scheduler.paused_requests(app)
    # Late, by a worker that had not heard of it.
    hold(app.database, 1, "paused_openai")
    assert scheduler.paused_requests(app) == 1
    clockwork_of(app).pass_time(2 * 60)
    scheduler.paused_requests(app)
    with app.database.read() as connection:
        assert pauses.standing(connection) == []
