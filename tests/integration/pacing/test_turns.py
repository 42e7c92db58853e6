"""Whose turn it is: nothing waits for the clock that could be run, however threads interleave.

What another thread does at a certain moment is done at that moment, in the same thread.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from events import AnalysisRequested, MailInput, Operation, Provider, ProviderChoice, seal_input
from store import cooldowns, migrate
from store.engine import Database
from tests.unit.workers.analyses.test_attempts import OPENAI, Desk, open_desk
from tests.unit.workers.standins import START, stand_in_app
from workers.analyses.run import resume
from workers.effects import moment
from workers.pacing import Gate, Permit, Result, permits


@pytest.fixture
def desk(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An account with a key that bears one call at a time, in a worker of one thread."""
    monkeypatch.setattr(permits, "FIRST_LIMIT", 1)
    database = Database(f"sqlite:///{tmp_path / 'byok.sqlite3'}")
    migrate.upgrade(database)
    app = stand_in_app(tmp_path, database, analysis_threads=1)
    with redis.Redis.from_url(f"{valkey}?db=1") as client:
        client.flushdb()
        app.__dict__["pacing"] = Gate(client)
        opened = open_desk(app)
        app.providers[Provider.ANTHROPIC] = opened.provider
        opened.give_key()
        yield opened
    database.close()


@pytest.fixture
def under_way(desk: Desk) -> Permit:
    """A call with the key, by another process."""
    permit = desk.app.pacing.enter(OPENAI.value, cooldowns.key_scope("key-2"), "elsewhere")
    assert isinstance(permit, Permit)
    return permit


def once_before(target: object, name: str, act: Callable[[], None]) -> None:
    """Have `act` done before the next call of a method."""
    method = getattr(target, name)

    def late(*arguments: object) -> object:
        delattr(target, name)
        act()
        return method(*arguments)

    setattr(target, name, late)


def ask_of_anthropic(desk: Desk, request_id: str) -> None:
    mail = MailInput(subject="Lunch?", text=f"Friday? {request_id}")
    desk.take(
        AnalysisRequested(
            request_id=request_id,
            operation=Operation.CLASSIFY,
            provider=ProviderChoice.ANTHROPIC,
            sealed_input=seal_input(
                mail.to_json(),
                desk.app.settings.sealing_public,
                account="acme",
                request_id=request_id,
            ),
        )
    )


def test_a_request_without_a_place_is_run_by_whoever_gives_one_back_without_a_call(
    desk: Desk,
) -> None:
    once_before(desk.app.shares, "leave", lambda: desk.ask("late"))
    expired = desk.ask("first", expires_at=moment(desk.app.effects))
    assert (expired.state, expired.reason) == ("failed", "expired")
    assert desk.request("late").state == "completed"


def test_a_request_without_a_place_is_run_by_whoever_gives_one_back_and_waits(
    desk: Desk, under_way: Permit
) -> None:
    once_before(desk.app.shares, "leave", lambda: ask_of_anthropic(desk, "late"))
    first = desk.ask("first")
    assert (first.state, first.reason) == ("waiting", "key_busy")
    assert desk.request("late").state == "completed"
    desk.app.pacing.leave(under_way, Result.OK)


def test_a_request_that_was_in_the_hands_of_another_thread_is_looked_at_again(
    desk: Desk, under_way: Permit
) -> None:
    assert desk.ask("first").reason == "key_busy"

    def ends_elsewhere() -> None:
        desk.app.pacing.leave(under_way, Result.OK)
        # Its thread finds nothing to run: what waits is looked at here.
        assert desk.ask("second").state == "completed"
        assert desk.request("first").reason == "key_busy"

    once_before(desk.app.shares, "unpick", ends_elsewhere)
    # A message about a request that has ended: the thread looks for what waits.
    resume(desk.app, "acme", "ended")
    assert desk.request("first").state == "completed"


def test_what_waits_for_a_busy_key_does_not_hold_back_what_wants_the_other_provider(
    desk: Desk, under_way: Permit
) -> None:
    for number in (1, 2):
        assert desk.ask(f"first-{number}").reason == "key_busy"
    desk.app.shares.enter("acme")
    for number in (1, 2):
        ask_of_anthropic(desk, f"other-{number}")
        assert desk.request(f"other-{number}").reason == "account_busy"
    desk.app.shares.leave("acme")
    # As the message says by which a request is waked, here the one that waits for longest.
    assert desk.resume("first-1").reason == "key_busy"
    for number in (1, 2):
        assert desk.request(f"other-{number}").state == "completed"
    desk.app.pacing.leave(under_way, Result.OK)
    assert desk.resume("first-1").state == "completed"
    assert desk.request("first-2").state == "completed"
    assert desk.app.effects.now_ms() == START
