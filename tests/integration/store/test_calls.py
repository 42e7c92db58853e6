"""The straight way into a call and out of it: nothing is written unless all that was read holds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text, update

from store import accounts, analyses, calls, credits, gate, keys, leases, outbox
from store.calls import Finish, Scene, Start
from store.engine import Database
from store.keys import Cause
from store.schema import analyses as requests
from store.schema import attempts, credit_periods, data_keys, processes, provider_keys, surrogates
from store.vault import StoredKey
from tests.integration.store.test_analyses import NEW, NOW
from tests.integration.store.test_races import until, update_of, waiting_for_locks

START = Start(
    request=NEW,
    attempt=1,
    process_id="process-1",
    provider="openai",
    model="gpt-unit-1",
    credential="byok",
    key_id="key-1",
    fallback_reason=None,
    prompt_version="p1",
    reserves_credit=False,
    reuse_digest=b"asked",
    reusable_from=NOW - 1000,
    now=NOW + 5,
)
BY_PLATFORM = replace(START, credential="platform", key_id=None, reserves_credit=True)
FINISH = Finish(
    account_id="acme",
    request_id="req-1",
    attempt=1,
    provider_request_id="openai-1",
    credential="byok",
    key_id="key-1",
    key_revision=2,
    credit_period_at=None,
    result={"category": "work"},
    usage={"input_tokens": 7},
    prompt_version="p1",
    result_text=b"under the vault",
    reuse_digest=b"asked",
    outbox_grace=5_000,
    outbox=[
        (outbox.USAGE, outbox.OutboxRow("row-1", '{"row": 1}')),
        (outbox.EVENT, outbox.OutboxRow("event-1", '{"event": "\\" quoted \\""}')),
    ],
    now=NOW + 900,
)


def consent(connection: Connection, revision: int, *, given: bool = True) -> None:
    gate.alone(connection, "acme")
    accounts.apply_update(
        connection, "acme", f"e{revision}", update_of(revision, consent=given), NOW
    )


def add_key(connection: Connection, key_id: str, revision: int, provider: str = "openai") -> None:
    gate.alone(connection, "acme")
    keys.take_slot(
        connection, "acme", provider, key_id=key_id, revision=revision, event_id=f"k{revision}"
    )
    keys.put(
        connection,
        account_id="acme",
        provider=provider,
        key_id=key_id,
        revision=revision,
        status="valid",
        reason="ok",
        stored=StoredKey("m1", b"wrapped", b"secret"),
        fingerprint=None,
        last4="",
        validate_at=None,
        cause=cause(f"h{revision}"),
    )


def cause(name: str) -> Cause:
    return Cause(name="added", event_id="e", source="s", history_id=name, now=NOW)


@pytest.fixture
def stage(database: Database) -> Database:
    """An account that consents, with a Valid key and two credits left, and a process that lives."""
    with database.write() as connection:
        consent(connection, 1)
        add_key(connection, "key-1", 2)
        leases.register(connection, "process-1", role="worker", host="h", pid=1, now=NOW)
        connection.execute(insert(surrogates).values(account_id="acme", surrogate="nobody"))
        connection.execute(
            insert(data_keys).values(
                scope="acme", master_key_id="m1", wrapped_key=b"wrapped", created_at=NOW
            )
        )
        account = accounts.find(connection, "acme")
        assert account is not None
        for _ in range(3):
            assert credits.reserve(connection, account)
    return database


between_statements = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
"""Something can happen there between two statements; on SQLite a write transaction is alone."""


def scene_of(connection: Connection, request_id: str | None = None) -> Scene:
    found = calls.scene(connection, "acme", request_id)
    assert found is not None
    return found


def started(database: Database, begin: Start = START) -> bool:
    with database.brief() as connection:
        known = None if isinstance(begin.request, analyses.NewRequest) else "req-1"
        return calls.start(connection, begin, scene_of(connection, known))


def finished(database: Database, end: Finish = FINISH) -> bool:
    with database.brief() as connection:
        return calls.finish(connection, end, scene_of(connection).account_version)


def request_in(database: Database) -> analyses.Request | None:
    with database.read() as connection:
        return analyses.find(connection, "acme", "req-1")


def attempts_in(database: Database) -> list[analyses.Attempt]:
    with database.read() as connection:
        return analyses.attempts_of(connection, "acme", "req-1")


def credits_in(database: Database) -> tuple[int, int]:
    with database.read() as connection:
        row = connection.execute(select(credit_periods.c.used, credit_periods.c.reserved)).one()
    return row.used, row.reserved


def test_a_scene_is_what_the_separate_reads_say(stage: Database) -> None:
    with stage.write() as connection:
        add_key(connection, "key-2", 3, "anthropic")
        analyses.accept(connection, NEW)
    with stage.read() as connection:
        scene = scene_of(connection, "req-1")
        assert scene.account == accounts.find(connection, "acme")
        records = {provider: own.record for provider, own in scene.own.items()}
        assert records == keys.active(connection, "acme")
        assert scene.request == analyses.find(connection, "acme", "req-1")
        assert scene.input == NEW.input
        assert scene.own["openai"].stored == keys.stored_key(connection, "key-1")
    assert (scene.surrogate, scene.credits_taken) == ("nobody", 3)
    assert scene.data_key is not None


def test_of_an_account_that_is_unknown_or_deleted_there_is_no_scene(stage: Database) -> None:
    with stage.write() as connection:
        assert calls.scene(connection, "nobody") is None
        gate.alone(connection, "acme")
        accounts.apply_deletion(connection, "acme", "e9", 9, NOW)
        assert calls.scene(connection, "acme") is None


def test_a_fresh_request_is_accepted_and_started(stage: Database) -> None:
    with stage.brief() as connection:
        scene = scene_of(connection)
        assert calls.start(connection, START, scene)
    found = request_in(stage)
    assert found == calls.as_started(START, scene)
    assert found is not None
    assert (found.state, found.account_revision, found.credit_period_at) == ("running", 1, None)
    (attempt,) = attempts_in(stage)
    assert (attempt.attempt, attempt.state, attempt.process_id) == (1, "started", "process-1")
    with stage.read() as connection:
        assert analyses.sealed_input(connection, "acme", "req-1") == NEW.input


def test_a_request_that_waits_is_started_again(stage: Database) -> None:
    with stage.write() as connection:
        analyses.accept(connection, NEW)
    waiting = request_in(stage)
    assert waiting is not None
    begin = replace(BY_PLATFORM, request=waiting)
    with stage.brief() as connection:
        scene = scene_of(connection, "req-1")
        assert calls.start(connection, begin, scene)
    assert request_in(stage) == calls.as_started(begin, scene)
    assert credits_in(stage) == (0, 4)
    assert not started(stage, begin)
    assert [one.attempt for one in attempts_in(stage)] == [1]
    assert credits_in(stage) == (0, 4)


@pytest.mark.parametrize("accepted_in", [None, 0])
def test_a_request_belongs_to_the_life_of_its_account_that_it_was_accepted_or_first_started_in(
    stage: Database, accepted_in: int | None
) -> None:
    with stage.write() as connection:
        analyses.accept(connection, NEW)
        connection.execute(update(requests).values(account_revision=accepted_in))
    waiting = request_in(stage)
    assert waiting is not None
    begin = replace(START, request=waiting)
    with stage.brief() as connection:
        scene = scene_of(connection, "req-1")
        assert calls.start(connection, begin, scene)
    found = request_in(stage)
    assert found == calls.as_started(begin, scene)
    assert found is not None
    assert found.account_revision == (1 if accepted_in is None else accepted_in)


def test_a_request_that_is_known_is_not_started_as_a_fresh_one(stage: Database) -> None:
    assert started(stage, BY_PLATFORM)
    assert not started(stage, BY_PLATFORM)
    assert credits_in(stage) == (0, 4)
    assert len(attempts_in(stage)) == 1


def test_the_last_credit_is_taken_once(stage: Database) -> None:
    for number in (1, 2, 3):
        one = replace(BY_PLATFORM, request=replace(NEW, request_id=f"req-{number}"))
        assert started(stage, one) is (number < 3)
    assert credits_in(stage) == (0, 5)


def test_the_first_credit_of_a_period_is_left_to_the_steps(stage: Database) -> None:
    with stage.write() as connection:
        connection.execute(credit_periods.delete())
    assert not started(stage, BY_PLATFORM)
    assert request_in(stage) is None


def test_nothing_is_started_under_a_lease_that_was_ended(stage: Database) -> None:
    with stage.write() as connection:
        leases.end(connection, "process-1", NOW)
    assert not started(stage)
    assert request_in(stage) is None


def test_nothing_is_started_where_there_is_a_result_to_reuse(stage: Database) -> None:
    assert started(stage)
    assert finished(stage)
    again = replace(START, request=replace(NEW, request_id="req-2"))
    assert not started(stage, again)
    assert started(stage, replace(again, reusable_from=NOW + 901))


CHANGES: dict[str, Callable[[Connection], Any]] = {
    "consent": lambda c: consent(c, 5, given=False),
    "plan": lambda c: consent(c, 5),
    "deletion": lambda c: accounts.apply_deletion(c, "acme", "e9", 9, NOW),
    "another key": lambda c: add_key(c, "key-2", 5, "anthropic"),
    "replaced": lambda c: add_key(c, "key-2", 5),
    "removed": lambda c: keys.take_slot(
        c, "acme", "openai", key_id=None, revision=5, event_id="k5"
    ),
    "settings": lambda c: keys.set_settings(
        c,
        "acme",
        "key-1",
        revision=5,
        event_id="k5",
        allow_platform_fallback=True,
        budget_usd=None,
    ),
    "verdict": lambda c: c.execute(update(provider_keys).values(status="invalid")),
    "doubt": lambda c: keys.doubt(c, "key-1", 2, 1, NOW),
}


@between_statements
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_started_of_what_has_changed_since_it_was_read(
    stage: Database, change: str
) -> None:
    with stage.brief() as connection:
        scene = scene_of(connection)
        with stage.write() as other:
            CHANGES[change](other)
        for begin in (START, BY_PLATFORM):
            assert not calls.start(connection, begin, scene)
    assert request_in(stage) is None
    assert credits_in(stage) == (0, 3)


def after_a_withdrawal_under_way(database: Database, act: Callable[[], object]) -> object:
    """What a statement answers that began, and took its snapshot, before a withdrawal committed."""
    with ThreadPoolExecutor(1) as pool:
        with database.write() as withdrawal:
            consent(withdrawal, 5, given=False)
            waits = pool.submit(act)
            until(lambda: waiting_for_locks(database) == 1)
        return waits.result(20)


@between_statements
def test_a_start_waits_for_a_withdrawal_under_way_and_then_writes_nothing(stage: Database) -> None:
    with stage.read() as connection:
        scene = scene_of(connection)

    def start() -> bool:
        with stage.brief() as connection:
            return calls.start(connection, START, scene)

    assert after_a_withdrawal_under_way(stage, start) is False
    assert request_in(stage) is None


@between_statements
def test_a_result_waits_for_a_withdrawal_under_way_and_is_not_written(stage: Database) -> None:
    assert started(stage)
    with stage.read() as connection:
        version = scene_of(connection).account_version

    def finish() -> object:
        with stage.brief() as connection:
            return calls.finish(connection, FINISH, version)

    assert after_a_withdrawal_under_way(stage, finish) is None
    assert [one.state for one in attempts_in(stage)] == ["started"]


@between_statements
def test_of_two_starts_of_one_request_at_once_one_counts(
    stage: Database,
) -> None:
    database = stage
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: started(database, BY_PLATFORM), range(8)))
    assert sorted(said) == [False] * 7 + [True]
    assert credits_in(database) == (0, 4)
    assert len(attempts_in(database)) == 1


def test_a_result_is_written_with_all_that_follows(stage: Database) -> None:
    assert started(stage, replace(BY_PLATFORM, key_id="key-1"))
    period = update_of(1, consent=True).credit_period.start
    end = replace(FINISH, credential="platform", credit_period_at=int(period.timestamp() * 1000))
    assert finished(stage, end)
    found = request_in(stage)
    assert found is not None
    assert (found.state, found.result, found.usage) == ("completed", end.result, end.usage)
    assert (found.answered_by, found.credential, found.finished_at) == (
        "model",
        "platform",
        end.now,
    )
    assert (found.credit_period_at, found.process_id, found.due_at) == (None, None, None)
    (attempt,) = attempts_in(stage)
    assert (attempt.state, attempt.outcome) == ("answered", "ok")
    assert (attempt.provider_request_id, attempt.ended_at) == ("openai-1", end.now)
    assert credits_in(stage) == (1, 3)
    with stage.write() as connection:
        assert analyses.sealed_input(connection, "acme", "req-1") is None
        texts = analyses.result_texts(connection, "acme", ["req-1"])
        assert texts == {"req-1": b"under the vault"}
        for kind, row in end.outbox:
            assert outbox.take_due(connection, kind, NOW + 5_899, 10) == []
            assert outbox.take_due(connection, kind, NOW + 5_900, 10) == [row]
        key = keys.find(connection, "key-1")
        assert key is not None
        assert key.last_ok_at == end.now


@pytest.mark.parametrize(
    "taken_over",
    [
        text("UPDATE attempts SET state = 'unknown'"),
        text("UPDATE analyses SET state = 'waiting'"),
        text("UPDATE analyses SET attempt = 2"),
        text("UPDATE analyses SET state = 'failed'"),
        text("DELETE FROM analyses"),
    ],
    ids=str,
)
def test_a_result_of_an_attempt_that_is_not_the_current_one_is_not_written(
    stage: Database, taken_over: Any
) -> None:
    assert started(stage)
    with stage.write() as connection:
        connection.execute(taken_over)
        before = connection.execute(select(attempts)).all()
    assert not finished(stage)
    with stage.read() as connection:
        assert connection.execute(select(attempts)).all() == before
        assert outbox.backlog(connection) == {}


def test_a_result_after_consent_was_withdrawn_is_not_written(stage: Database) -> None:
    assert started(stage)
    with stage.brief() as connection:
        version = scene_of(connection).account_version
    with stage.write() as connection:
        consent(connection, 5, given=False)
    with stage.brief() as connection:
        assert not calls.finish(connection, FINISH, version)
    found = request_in(stage)
    assert found is not None
    assert found.state == "running"


def test_use_of_a_key_is_noted_once_a_minute(stage: Database) -> None:
    with stage.write() as connection:
        connection.execute(update(provider_keys).values(last_ok_at=FINISH.now - 59_000))
    assert started(stage)
    assert finished(stage)
    with stage.read() as connection:
        key = keys.find(connection, "key-1")
    assert key is not None
    assert key.last_ok_at == FINISH.now - 59_000


def test_a_process_that_is_gone_holds_nothing_back_of_a_result(stage: Database) -> None:
    assert started(stage)
    with stage.write() as connection:
        connection.execute(processes.delete())
    assert finished(stage)
