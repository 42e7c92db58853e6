"""What the gauges show of budgets, pauses, and what is kept too long, on each database."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from events import KeyUpdated
from metrics import gauges
from metrics.gauges import Gauge
from store import pauses
from store.engine import Database
from tests.unit.workers.analyses.test_attempts import Desk, open_desk
from tests.unit.workers.standins import START, clockwork_of, stand_in_app
from workers import retention
from workers.gauges import Gauges

DAY = 24 * 3600


@pytest.fixture
def desk(database: Database, valkey: str, tmp_path: Path) -> Iterator[Desk]:
    """An account that asks, with a clock that the test moves."""
    app = stand_in_app(tmp_path, database, keep_requests_days=10)
    with redis.Redis.from_url(f"{valkey}?db=1") as stream:
        stream.flushdb()
        app.__dict__["stream"] = stream
        yield open_desk(app)


def shown(desk: Desk) -> dict[Gauge, dict[tuple[str, ...], float]]:
    """The gauges of the store as they stand."""
    reading = Gauges(desk.app)
    try:
        found = (*reading.read_database(), *reading.read_counts())
    finally:
        reading.close()
    return {read.gauge: {k: n for k, n in read.samples.items() if n} for read in found}


def of_key(desk: Desk, usd: str, revision: int) -> None:
    if revision == 1:
        desk.give_key(budget_usd=usd)
    else:
        desk.take(
            KeyUpdated(
                revision=revision + 2,
                key_id="key-2",
                allow_platform_fallback=False,
                budget_usd=Decimal(usd),
            )
        )


def of_account(desk: Desk, usd: str, revision: int) -> None:
    desk.account(revision + 3, budget_usd=usd)


def of_platform(desk: Desk, usd: str, revision: int) -> None:
    changed = {"platform_budget_usd": Decimal(usd)}
    desk.app.settings = desk.app.settings.model_copy(update=changed)


@pytest.mark.parametrize(
    ("scope", "sets"), [("key", of_key), ("account", of_account), ("platform", of_platform)]
)
def test_a_budget_is_near_then_used_up_and_neither_when_it_is_raised_or_the_month_ends(
    desk: Desk, scope: str, sets: Callable[[Desk, str, int], None]
) -> None:
    desk.app.settings = desk.app.settings.model_copy(update={"budget_soft_share": 0.3})
    sets(desk, "0.02", 1)
    assert shown(desk)[gauges.BUDGETS] == {}
    seen = []
    for number in range(6):
        desk.ask(f"req-{number}")
        seen.append(shown(desk)[gauges.BUDGETS])
    near, used_up = {(scope, "near"): 1}, {(scope, "used_up"): 1}
    assert next(one for one in seen if one) == near
    assert seen[-1] == used_up
    assert seen == sorted(seen, key=[{}, near, used_up].index)
    share = shown(desk)[gauges.PLATFORM_BUDGET].get((), 0.0)
    assert (0 < share <= 1) == (scope == "platform")
    sets(desk, "0.03", 2)
    assert shown(desk)[gauges.BUDGETS] == near
    clockwork_of(desk.app).pass_time(31 * DAY)
    assert shown(desk)[gauges.BUDGETS] == {}
    assert shown(desk)[gauges.PLATFORM_BUDGET] == {}


def test_what_is_paused_is_counted_with_the_age_of_the_oldest_and_no_account_is_named(
    desk: Desk,
) -> None:
    def change(what: str, kind: str, name: str) -> None:
        made = pauses.Pause(
            kind=kind,
            name=name,
            at=desk.app.effects.now_ms(),
            source="ann",
            note="",
            resumed_at=None,
        )
        with desk.app.database.write() as connection:
            getattr(pauses, what)(connection, made, f"{what}-{kind}-{name}")

    assert shown(desk)[gauges.PAUSED] == {}
    change("pause", "account", "acme")
    clockwork_of(desk.app).pass_time(3600)
    change("pause", "account", "other")
    change("pause", "queue", "analyses")
    clockwork_of(desk.app).pass_time(60)
    found = shown(desk)
    assert found[gauges.PAUSED] == {("account", "account"): 2, ("queue", "analyses"): 1}
    assert found[gauges.PAUSED_SECONDS] == {
        ("account", "account"): 3660,
        ("queue", "analyses"): 60,
    }
    change("resume", "account", "acme")
    change("resume", "queue", "analyses")
    assert shown(desk)[gauges.PAUSED] == {("account", "account"): 1}


def test_what_is_kept_too_long_is_shown_until_a_sweep_erases_it_and_that_is_counted(
    desk: Desk,
) -> None:
    def value(instrument: object, kind: str) -> float:
        return float(getattr(desk.app.instruments, str(instrument)).labels(kind)._value.get())

    desk.ask("req-1")
    clockwork_of(desk.app).pass_time(12 * DAY)
    late = shown(desk)[gauges.KEPT_TOO_LONG]
    assert late == {("requests",): pytest.approx(2 * DAY, abs=60)}
    assert (value("erased", "requests"), value("erased_last", "requests")) == (0, 0)
    retention.kept_no_longer(desk.app)
    assert shown(desk)[gauges.KEPT_TOO_LONG] == {}
    assert value("erased", "requests") == 1
    assert value("erased_last", "requests") == pytest.approx(START / 1000 + 12 * DAY, abs=60)
