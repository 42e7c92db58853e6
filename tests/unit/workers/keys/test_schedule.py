"""The schedule of re-validations: each key at its own moment of the period, whatever happened."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.validations import DueKey
from tests.unit.workers.standins import START
from workers.keys.schedule import is_scheduled, may_be_put_off, next_look, phase_ms

HOUR = 3_600_000
DAY = 24 * HOUR

key_ids = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
moments = st.integers(0, 4_000_000_000_000)
periods = st.integers(1, 60 * DAY)


@given(key_ids, moments, periods, st.integers(1, 4))
def test_the_next_look_is_at_the_keys_own_moment_about_so_many_periods_away(
    key_id: str, now: int, period: int, count: int
) -> None:
    at = next_look(key_id, now, period, count)
    assert at % period == phase_ms(key_id, period)
    assert (count - 0.5) * period <= at - now <= (count + 0.5) * period
    assert is_scheduled(key_id, at, period)


@given(key_ids, moments, periods, st.floats(0, 0.49))
def test_from_the_first_look_on_it_comes_once_a_period_however_late_it_is_taken(
    key_id: str, now: int, period: int, late: float
) -> None:
    first = next_look(key_id, now, period)
    assert next_look(key_id, first + int(late * period), period) == first + period


@given(key_ids, moments)
def test_a_moment_that_somebody_chose_is_not_the_schedules(key_id: str, now: int) -> None:
    at = next_look(key_id, now, DAY)
    assert not is_scheduled(key_id, at + 1, DAY)
    assert not is_scheduled(key_id, at - 60_000, DAY)


@pytest.mark.parametrize(
    "validated_at",
    [
        lambda _: START,
        # As `revalidate --all` and an outage leave them.
        lambda number: START + number * 50,
    ],
    ids=["all-at-once", "one-after-the-other"],
)
def test_a_day_is_flat_within_a_tenth(validated_at: object) -> None:
    assert callable(validated_at)
    by_hour: Counter[int] = Counter()
    for number in range(100_000):
        at = next_look(f"key_{number:08}", validated_at(number), DAY)
        by_hour[at % DAY // HOUR] += 1
    mean = 100_000 / 24
    assert len(by_hour) == 24
    assert max(abs(count - mean) for count in by_hour.values()) < 0.1 * mean


def due(**changes: object) -> DueKey:
    """A key whose scheduled moment has come and that a request proved an hour ago."""
    at = next_look("key-1", START - DAY, DAY)
    fields: dict[str, object] = {
        "key_id": "key-1",
        "status": "valid",
        "reason": "ok",
        "validate_at": at,
        "tested_at": at - DAY,
        "last_ok_at": at - HOUR,
        "suspect_at": None,
    }
    return DueKey(**fields | changes)  # type: ignore[arg-type]  # the fields are a test's own


def test_a_key_that_requests_proved_is_put_off() -> None:
    key = due()
    assert may_be_put_off(key, key.validate_at + 5, DAY)


AT = due().validate_at


@pytest.mark.parametrize(
    "changes",
    [
        {"last_ok_at": None},
        {"last_ok_at": AT - DAY - 1},
        # Its last proof is its own validation.
        {"last_ok_at": AT - HOUR, "tested_at": AT - HOUR},
        {"suspect_at": AT - 10},
        {"status": "invalid"},
        {"status": "pending"},
        {"reason": "no_quota"},
        # Somebody asked for it.
        {"validate_at": AT - 1},
    ],
    ids=["never", "long-ago", "by-validation", "in-doubt", "invalid", "pending", "quota", "asked"],
)
def test_a_key_that_needs_its_probe_is_not_put_off(changes: dict[str, object]) -> None:
    assert not may_be_put_off(due(**changes), AT + 5, DAY)
