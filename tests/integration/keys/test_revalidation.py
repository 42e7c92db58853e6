"""Re-validation: at a bounded pace, skipped where traffic is proof, once for many refusals."""

from collections import Counter

import pytest
from sqlalchemy import select, update

from events import KeyTested, Provider
from store import keys, pace, validations
from store.engine import Database
from store.schema import key_history, provider_keys
from tests.integration.keys.keeping import OLD, byok, change_key, put_key, row_of, vault_of
from tests.road import GOOD_OPENAI, Road
from tests.unit.workers.standins import START, clockwork_of, outbasket_of, stand_in_app
from workers import scheduler
from workers.app import App
from workers.keys import validation
from workers.keys.schedule import next_look
from workers.keys.validation import VALIDATE_ACTOR, validate
from workers.providers.port import Failure, OutcomeClass, Proof
from workers.queues import VALIDATIONS_QUEUE

DAY = 24 * 3_600_000
OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC


@pytest.fixture
def many(database: Database) -> list[str]:
    """Sixty keys that are due: forty of OpenAI's, twenty of Anthropic's."""
    vault = vault_of(OLD)
    names = [f"key-{number:03}" for number in range(60)]
    for number, key_id in enumerate(names):
        provider = ANTHROPIC if number % 3 == 0 else OPENAI
        put_key(database, vault, key_id, account=f"a-{number}", provider=provider)
    return names


def sent_of(app: App) -> list[str]:
    """The keys that were sent to be validated since this was asked last."""
    basket = outbasket_of(app)
    taken = list(basket.sent)
    basket.sent.clear()
    assert all(message[:2] == (VALIDATIONS_QUEUE, VALIDATE_ACTOR) for message in taken)
    return [arguments[0] for _, _, arguments in taken]


@pytest.mark.usefixtures("many")
def test_no_more_are_sent_a_second_and_provider_than_the_setting_says(app: App) -> None:
    rate = app.settings.validations_per_second
    clock = clockwork_of(app)
    sent_at: list[tuple[int, str]] = []
    while len(sent_at) < 60:
        scheduler.due_validations(app)
        sent = sent_of(app)
        sent_at.extend((clock.now, row_of(app.database, key_id).provider) for key_id in sent)
        clock.pass_time(0.1)
        assert clock.now < START + 10_000
    for provider, count in ((OPENAI, 40), (ANTHROPIC, 20)):
        moments = [at for at, name in sent_at if name == provider]
        assert len(moments) == count
        for at in moments:
            within = sum(at <= other < at + 1000 for other in moments)
            assert within <= rate * (1 + pace.BURST_SECONDS)
        # And it is no slower than that either.
        assert max(moments) - START <= count / rate * 1000


@pytest.mark.usefixtures("many")
def test_two_schedulers_keep_one_pace_together(app: App) -> None:
    other = stand_in_app(app.settings.state_dir, app.database)
    for each in (app, other, app, other):
        scheduler.due_validations(each)
    burst = int(app.settings.validations_per_second * pace.BURST_SECONDS)
    sent = sent_of(app) + sent_of(other)
    assert len(sent) == len(set(sent)) == 2 * burst


@pytest.mark.parametrize("rate", [0.01, 0.3, 1, 7, 20, 999, 10_000])
def test_any_pace_is_kept(app: App, rate: float) -> None:
    let_through, now = 0, START
    for _ in range(200):
        with app.database.write() as connection:
            let_through += pace.take(connection, "validations:test", now, rate, 10_000_000)
        now += 150
    # The burst at the start, or the one that may always go.
    most = 30 * rate + max(1, rate * pace.BURST_SECONDS)
    assert 0.95 * 29.85 * rate <= let_through <= most


def test_keys_that_requests_wait_for_come_first(app: App, many: list[str]) -> None:
    late = next(name for name in reversed(many) if row_of(app.database, name).provider == OPENAI)
    new = next(n for n in reversed(many[:-3]) if row_of(app.database, n).provider == OPENAI)
    with app.database.write() as connection:
        connection.execute(update(provider_keys).values(validate_at=START - 60_000))
    change_key(app.database, late, suspect_at=START, validate_at=START)
    change_key(app.database, new, status="pending", reason="", validate_at=START)
    scheduler.due_validations(app)
    assert sent_of(app)[:2] == [late, new]


# Put off by traffic


@pytest.fixture
def scheduled(app: App) -> int:
    """The scheduled moment of the key `key-1`, which the clock has just reached."""
    put_key(app.database, app.vault, "key-1")
    at = next_look("key-1", START, DAY)
    change_key(app.database, "key-1", validate_at=at, tested_at=START, last_ok_at=START)
    clockwork_of(app).now = at + 40
    return at


def test_a_key_that_a_request_proved_lately_is_not_asked_about(app: App, scheduled: int) -> None:
    with app.database.write() as connection:
        keys.refresh_ok(connection, "key-1", 1, scheduled - 3_600_000)
    scheduler.due_validations(app)
    assert sent_of(app) == []
    assert row_of(app.database, "key-1").validate_at == scheduled + DAY
    # A period without requests later, it is.
    clockwork_of(app).now = scheduled + DAY
    scheduler.due_validations(app)
    assert sent_of(app) == ["key-1"]


def test_a_key_without_requests_is_asked_about_each_period(app: App, scheduled: int) -> None:
    scheduler.due_validations(app)
    assert sent_of(app) == ["key-1"]
    # Sent again, should nothing be heard of it.
    assert row_of(app.database, "key-1").validate_at == scheduled + 40 + 60_000


def test_what_proved_the_secret_before_proves_nothing_of_the_one_under_its_id(app: App) -> None:
    put_key(app.database, app.vault, "key-1")
    change_key(app.database, "key-1", revision=2)
    for used, proved in ((1, None), (2, START)):
        with app.database.write() as connection:
            keys.refresh_ok(connection, "key-1", used, START)
        assert row_of(app.database, "key-1").last_ok_at == proved


@pytest.mark.parametrize("asks", ["test", "doubt", "all"])
def test_traffic_does_not_put_off_what_was_asked_for(app: App, scheduled: int, asks: str) -> None:
    now = scheduled - 3_600_000
    clockwork_of(app).now = now + 5
    with app.database.write() as connection:
        keys.refresh_ok(connection, "key-1", 1, now)
        if asks == "test":
            assert keys.ask_validation(connection, "key-1", now)
        elif asks == "doubt":
            assert keys.doubt(connection, "key-1", 1, 1, now)
    if asks == "all":
        assert list(validations.ask_for_all(app.database, "openai", now, 20)) == [1]
    scheduler.due_validations(app)
    assert sent_of(app) == ["key-1"]


# Verdicts and when the next one is due


class Saying:
    """A provider that says one thing of every key."""

    def __init__(self, outcome: Proof | Failure) -> None:
        self.outcome = outcome

    async def probe(self, *_: object, **__: object) -> Proof | Failure:
        return self.outcome


OK = Proof(stage=1, model=None, tokens=None, request_id=None)
REJECTED = Failure(kind=OutcomeClass.REJECTED, code="invalid_api_key")


def told(app: App, outcome: Proof | Failure) -> None:
    app.__dict__["providers"] = dict.fromkeys(Provider, Saying(outcome))
    validate(app, "key-1")


def test_a_verdict_sets_the_next_look_on_the_keys_own_moment(app: App, scheduled: int) -> None:
    told(app, OK)
    assert row_of(app.database, "key-1").validate_at == scheduled + DAY


def test_a_key_that_stays_invalid_is_looked_at_less_and_less_within_bounds(
    app: App, scheduled: int
) -> None:
    gaps = []
    for _ in range(6):
        told(app, REJECTED)
        following = row_of(app.database, "key-1").validate_at
        gaps.append((following - scheduled) // DAY)
        scheduled = following
        clockwork_of(app).now = following
    assert gaps == [1, 2, 3, 4, 4, validation.INVALID_RECHECK_FACTOR]
    told(app, OK)
    assert row_of(app.database, "key-1").validate_at == scheduled + DAY


def test_each_change_of_status_is_one_entry_and_one_event(app: App, scheduled: int) -> None:
    for outcome in (OK, REJECTED, REJECTED, OK, OK, REJECTED):
        told(app, outcome)
    with app.database.read() as connection:
        entries = connection.execute(
            select(key_history.c.old_status, key_history.c.new_status, key_history.c.reason)
            .where(key_history.c.key_id == "key-1", key_history.c.cause == "validated")
            .order_by(key_history.c.id)
        ).all()
    assert [tuple(entry) for entry in entries] == [
        ("valid", "invalid", "rejected"),
        ("invalid", "valid", "ok"),
        ("valid", "invalid", "rejected"),
    ]
    counted = app.instruments.key_changes.labels("openai", "invalid", "rejected")
    assert counted._value.get() == 2


def test_a_refusal_that_was_under_way_when_the_verdict_came_asks_for_no_other(app: App) -> None:
    put_key(app.database, app.vault, "key-1")
    told(app, OK)

    def doubt(claimed_under: int) -> bool:
        with app.database.write() as connection:
            return keys.doubt(connection, "key-1", 1, claimed_under, app.effects.now_ms())

    number = row_of(app.database, "key-1").validation_no
    # Two attempts were claimed; the first is refused, and has the key validated.
    assert doubt(number)
    assert not doubt(number)
    told(app, REJECTED)
    told(app, OK)
    # Now the second one's answer comes, and one that was claimed since.
    assert not doubt(number)
    assert doubt(row_of(app.database, "key-1").validation_no)


# The whole road


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries of analyses come after milliseconds."""
    monkeypatch.setattr("workers.analyses.retry.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("workers.analyses.retry.LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("workers.pacing.permits.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("store.analyses.TURN_SECONDS", 0.05)


both_stores = pytest.mark.parametrize(
    "services", ["sqlite-valkey", "postgresql-valkey"], indirect=True
)


@both_stores
@pytest.mark.usefixtures("quick")
def test_a_hundred_refusals_of_a_key_are_one_validation(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    before = road.key(key_id)
    assert before is not None
    road.sandbox.fault("revoked", key=GOOD_OPENAI)
    asked = [road.ask() for _ in range(100)]
    ended = Counter((r.state, r.reason) for r in map(road.ended, asked))
    assert ended == {("failed", "key_invalid"): 100}
    key = road.key(key_id)
    assert key is not None
    assert (key.status, key.validation_no) == ("invalid", before.validation_no + 1)
    moves = [e["data"]["new"] for e in road.out_events("key.status_changed")]
    assert moves == ["pending", "valid", "invalid"]


@both_stores
def test_asking_again_and_again_changes_and_tells_nothing(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    for _ in range(20):
        road.publish(KeyTested(key_id=key_id), "acme")
    road.until(lambda: (k := road.key(key_id)) is not None and k.validation_no >= 20)
    assert len(road.out_events("key.status_changed")) == 2


# The command


@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
def test_the_command_sends_what_is_due_and_marks_all(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    road.stop_working()
    app = road.app
    environment = {
        "BYOK_SIGNING_KEY": app.settings.signing_key.get_secret_value(),  # type: ignore[union-attr]  # it has one
        "BYOK_SOURCE": "test/upstream",
        "BYOK_VALIDATIONS_PER_SECOND": "100",
    }
    assert byok(app, "revalidate", "--due", "--json", **environment)[:2] == (
        0,
        {"sent": 0, "put_off": 0},
    )
    code, told, _ = byok(app, "revalidate", "--all", "--json", **environment)
    assert (code, told) == (0, {"marked": 1, "seconds": 0})
    assert byok(app, "revalidate", "--due", "--json", **environment)[:2] == (
        0,
        {"sent": 1, "put_off": 0},
    )
    before = road.key(key_id)
    assert before is not None
    road.start()
    road.until(
        lambda: (k := road.key(key_id)) is not None and k.validation_no > before.validation_no
    )
    assert byok(app, "revalidate", "--json", **environment)[0] == 2
    assert byok(app, "revalidate", "--due", "--all", **environment)[0] == 2


def test_marking_all_spreads_them_at_the_pace(app: App, many: list[str]) -> None:
    with app.database.write() as connection:
        connection.execute(update(provider_keys).values(validate_at=START + DAY))
    change_key(app.database, many[1], validate_at=START + 10)
    assert sum(validations.ask_for_all(app.database, "openai", START, 10)) == 40
    moments = sorted(
        row_of(app.database, name).validate_at
        for name in many
        if row_of(app.database, name).provider == OPENAI
    )
    # One of them was due sooner anyway.
    assert len(set(moments)) >= 39
    assert moments[0] == START
    assert moments[-1] == START + 39 * 100
