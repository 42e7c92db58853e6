"""Two events of one account at once on PostgreSQL: the end is that of one order or the other.

The first worker is held where it commits; the second one runs until it waits for the first, or
until it is done. On SQLite there is one writer at a time.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, event, select, text

from events import (
    AccountDeleted,
    AccountUpdated,
    AnalysisRequested,
    CreditPeriod,
    EventData,
    KeyAdded,
    KeyRemoved,
    KeyReplaced,
    KeyUpdated,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
    seal_input,
    seal_key,
)
from store import accounts, analyses, credits, keys, waiting
from store.schema import provider_keys
from tests.unit.workers.standins import event_of
from workers import accounts as account_events
from workers.analyses import actors as analysis_actors
from workers.app import App
from workers.keys import lifecycle
from workers.providers.port import Failure, OutcomeClass, Question

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

OPENAI = Provider.OPENAI
HANDLERS = {
    **account_events.HANDLERS.by_type,
    **lifecycle.HANDLERS.by_type,
    **analysis_actors.HANDLERS.by_type,
}
MAIL = MailInput.model_validate({"subject": "Lunch?", "from": "a@example.org", "text": "Friday?"})


class Overloaded:
    """A provider that refuses every call."""

    name = OPENAI

    async def ask(self, key: SecretStr, question: Question) -> Failure:
        return Failure(kind=OutcomeClass.UNAVAILABLE, code="overloaded", status=529)


class Alive:
    """A lease that is always held."""

    def holder(self, connection: Connection) -> str:
        return "process-1"

    def name(self) -> str:
        return "process-1"


@pytest.fixture
def app(app: App) -> App:
    """The app with a provider and a lease."""
    app.__dict__.update(providers={OPENAI: Overloaded()}, lease=Alive())
    return app


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Two workers."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


def take(app: App, data: EventData, event_id: str = "event") -> None:
    """Act on an event as a worker does."""
    HANDLERS[type(data)](app, event_of(data, event_id=event_id), data)


def collide(app: App, pool: ThreadPoolExecutor, first: EventData, second: EventData) -> None:
    """Let the second event run into the first one's commit."""
    committing, go_on = threading.Event(), threading.Event()
    held: list[int] = []

    def hold(connection: Connection) -> None:
        if held == [threading.get_ident()]:
            held.clear()
            committing.set()
            go_on.wait(60)

    def act_first() -> None:
        held.append(threading.get_ident())
        take(app, first, "event-of-the-first")

    event.listen(app.database.engine, "commit", hold)
    try:
        one = pool.submit(act_first)
        one.add_done_callback(lambda _: committing.set())
        assert committing.wait(30)
        two = pool.submit(take, app, second, "event-of-the-second")
        until_done_or_waiting(app, two)
    finally:
        go_on.set()
    one.result(30)
    two.result(30)


def until_done_or_waiting(app: App, running: "Future[None]") -> None:
    """Look again and again until the second worker is done or waits for a lock."""
    pause = threading.Event()
    statement = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(3_000):
        with app.database.read() as connection:
            waits = connection.execute(statement).scalar_one()
        if waits or running.done():
            return
        pause.wait(0.01)
    raise AssertionError("the second worker neither ends nor waits")


def updated(revision: int, *, consent: bool = True, credit: int = 100) -> AccountUpdated:
    return AccountUpdated(
        revision=revision,
        plan="business",
        ai_consent=consent,
        credits=credit,
        credit_period=CreditPeriod(
            start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 2, 1, tzinfo=UTC)
        ),
    )


def given(app: App, revision: int, kind: type[KeyAdded | KeyReplaced] = KeyAdded) -> EventData:
    key_id = f"key-{revision}"
    return kind(
        revision=revision,
        provider=OPENAI,
        key_id=key_id,
        sealed_key=seal_key(
            f"sk-proj-fake-not-a-real-key-{revision:04}",
            app.settings.sealing_public,
            account="acme",
            provider=OPENAI,
            key_id=key_id,
        ),
    )


def removed(revision: int, key_id: str = "key-2") -> KeyRemoved:
    return KeyRemoved(revision=revision, provider=OPENAI, key_id=key_id)


def requested(app: App, request_id: str = "req-1", text: str = "Friday?") -> AnalysisRequested:
    mail = MAIL.model_copy(update={"text": text})
    return AnalysisRequested(
        request_id=request_id,
        operation=Operation.CLASSIFY,
        provider=ProviderChoice.OPENAI,
        sealed_input=seal_input(
            mail.to_json(), app.settings.sealing_public, account="acme", request_id=request_id
        ),
    )


def make_valid(app: App, key_id: str) -> None:
    """Write the verdict that a key works."""
    with app.database.write() as connection:
        connection.execute(
            provider_keys.update()
            .where(provider_keys.c.key_id == key_id)
            .values(status="valid", reason="ok")
        )


def active(app: App) -> dict[str, str]:
    """The account's keys by provider."""
    with app.database.read() as connection:
        return {p: key.key_id for p, key in keys.active(connection, "acme").items()}


def secrets_kept(app: App) -> set[str]:
    """The keys whose ciphertext is there."""
    with app.database.read() as connection:
        found = connection.execute(
            select(provider_keys.c.key_id).where(provider_keys.c.ciphertext.is_not(None))
        )
        return set(found.scalars())


def account(app: App) -> accounts.Account | None:
    with app.database.read() as connection:
        return accounts.find(connection, "acme")


def attempts(app: App, request_id: str = "req-1") -> list[tuple[str, str | None]]:
    """Which credential and key each attempt of a request used."""
    with app.database.read() as connection:
        found = analyses.attempts_of(connection, "acme", request_id)
    return [(attempt.credential, attempt.key_id) for attempt in found]


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_of_two_first_updates_the_higher_revision_wins(
    app: App, pool: ThreadPoolExecutor, first: int, second: int
) -> None:
    collide(app, pool, updated(first, consent=first == 1), updated(second, consent=second == 1))
    found = account(app)
    assert found is not None
    assert (found.revision, found.ai_consent) == (2, False)


@pytest.mark.parametrize("deletion_first", [True, False])
def test_of_a_first_update_and_a_later_deletion_the_deletion_wins(
    app: App, pool: ThreadPoolExecutor, deletion_first: bool
) -> None:
    pair = [AccountDeleted(revision=2), updated(1)]
    collide(app, pool, *(pair if deletion_first else reversed(pair)))
    assert account(app) is None


@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2)])
def test_of_two_first_keys_the_higher_revision_wins_and_the_other_secret_is_gone(
    app: App, pool: ThreadPoolExecutor, first: int, second: int
) -> None:
    take(app, updated(1))
    collide(app, pool, given(app, first), given(app, second, KeyReplaced))
    assert active(app) == {"openai": "key-3"}
    assert secrets_kept(app) == {"key-3"}


@pytest.mark.parametrize("removal_first", [True, False])
def test_of_a_key_and_its_removal_no_secret_is_left(
    app: App, pool: ThreadPoolExecutor, removal_first: bool
) -> None:
    take(app, updated(1))
    pair = [removed(3), given(app, 2)]
    collide(app, pool, *(pair if removal_first else reversed(pair)))
    assert active(app) == {}
    assert secrets_kept(app) == set()


@pytest.mark.parametrize("deletion_first", [True, False])
def test_of_a_key_and_the_deletion_of_its_account_no_secret_is_left(
    app: App, pool: ThreadPoolExecutor, deletion_first: bool
) -> None:
    take(app, updated(1))
    pair = [AccountDeleted(revision=3), given(app, 2)]
    collide(app, pool, *(pair if deletion_first else reversed(pair)))
    assert secrets_kept(app) == set()
    take(app, updated(4), "event-4")
    assert active(app) == {}


@pytest.mark.parametrize(("first", "second"), [(3, 4), (4, 3)])
def test_of_two_settings_of_a_key_the_higher_revision_wins(
    app: App, pool: ThreadPoolExecutor, first: int, second: int
) -> None:
    def settle(revision: int) -> KeyUpdated:
        return KeyUpdated(revision=revision, key_id="key-2", allow_platform_fallback=revision == 4)

    take(app, updated(1))
    collide(app, pool, settle(first), settle(second))
    take(app, given(app, 2), "event-2")
    with app.database.read() as connection:
        assert keys.active(connection, "acme")["openai"].allow_platform_fallback


@pytest.mark.parametrize("key_first", [True, False])
def test_a_key_and_its_account_at_once_do_not_wait_for_a_minute(
    app: App, pool: ThreadPoolExecutor, key_first: bool
) -> None:
    pair = [given(app, 2), updated(1)]
    collide(app, pool, *(pair if key_first else reversed(pair)))
    with app.database.read() as connection:
        due = waiting.any_due(connection, app.effects.now_ms())
    assert due or active(app) == {"openai": "key-2"}


@pytest.mark.parametrize("request_first", [True, False])
def test_a_request_during_a_replacement_is_never_the_platforms(
    app: App, pool: ThreadPoolExecutor, request_first: bool
) -> None:
    take(app, updated(1))
    take(app, given(app, 2))
    make_valid(app, "key-2")
    pair = [requested(app), given(app, 3, KeyReplaced)]
    collide(app, pool, *(pair if request_first else reversed(pair)))
    # Before it, the old key pays; after it, the new one is Pending and is waited for.
    assert attempts(app) == ([("byok", "key-2")] if request_first else [])
    with app.database.read() as connection:
        found = analyses.find(connection, "acme", "req-1")
        assert credits.standing(connection, known(app)) == (0, 0)
    assert found is not None
    assert found.state == analyses.WAITING


def known(app: App) -> accounts.Account:
    found = account(app)
    assert found is not None
    return found


@pytest.mark.parametrize("request_first", [True, False])
def test_no_request_that_commits_after_a_removal_uses_the_key(
    app: App, pool: ThreadPoolExecutor, request_first: bool
) -> None:
    take(app, updated(1))
    take(app, given(app, 2))
    make_valid(app, "key-2")
    pair = [requested(app), removed(3)]
    collide(app, pool, *(pair if request_first else reversed(pair)))
    assert attempts(app) == ([("byok", "key-2")] if request_first else [("platform", None)])
    assert secrets_kept(app) == set()


@pytest.mark.parametrize("request_first", [True, False])
def test_no_request_that_commits_after_consent_was_withdrawn_is_sent(
    app: App, pool: ThreadPoolExecutor, request_first: bool
) -> None:
    take(app, updated(1))
    pair = [requested(app), updated(2, consent=False)]
    collide(app, pool, *(pair if request_first else reversed(pair)))
    assert len(attempts(app)) == (1 if request_first else 0)
    with app.database.read() as connection:
        found = analyses.find(connection, "acme", "req-1")
    assert found is not None
    if not request_first:
        assert (found.state, found.reason) == (analyses.SKIPPED, "consent")


def test_two_requests_for_the_last_credit_take_it_once(app: App, pool: ThreadPoolExecutor) -> None:
    take(app, updated(1, credit=1))
    collide(app, pool, requested(app, "req-1"), requested(app, "req-2"))
    with app.database.read() as connection:
        found = analyses.find_many(connection, "acme", ["req-1", "req-2"])
        used, reserved = credits.standing(connection, known(app))
    assert (used, reserved) == (0, 0)
    # The first one gives its credit back when the provider fails; the second may find it then.
    outcomes = {request.request_id: (request.state, request.reason) for request in found}
    waits = (analyses.WAITING, "provider_unavailable")
    assert outcomes["req-1"] == waits
    assert outcomes["req-2"] in {waits, (analyses.SKIPPED, "credits")}


def test_the_same_request_twice_at_once_is_sent_once(app: App, pool: ThreadPoolExecutor) -> None:
    take(app, updated(1))
    collide(app, pool, requested(app), requested(app))
    assert len(attempts(app)) == 1


def test_two_accounts_do_not_wait_for_each_other(app: App, pool: ThreadPoolExecutor) -> None:
    take(app, updated(1))
    done: list[Any] = []

    def other() -> None:
        data = updated(1)
        HANDLERS[AccountUpdated](app, event_of(data, account="other", event_id="o"), data)
        done.append(True)

    committing, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        if threading.current_thread().name.startswith("held"):
            committing.set()
            go_on.wait(60)

    event.listen(app.database.engine, "commit", hold)
    held = threading.Thread(target=take, args=(app, updated(2), "event-2"), name="held")
    held.start()
    try:
        assert committing.wait(30)
        pool.submit(other).result(20)
    finally:
        go_on.set()
        held.join(30)
    assert done == [True]
