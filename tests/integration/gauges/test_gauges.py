"""What the exporter shows of each kind of broker, with no worker running."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local.sandbox import SandboxServer
from events import AccountUpdated, CreditPeriod
from metrics import gauges
from metrics.gauges import Gauge
from store import accounts, migrate
from tests.conftest import Services
from tests.road import Road, make_settings
from workers import worker
from workers.effects import SystemEffects
from workers.gauges import Gauges

HOUR = 3600.0
SLACK = 60.0
"""For a slow machine, in seconds."""

ALWAYS = CreditPeriod(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2126, 1, 1, tzinfo=UTC))
ACCOUNTS = ("first", "second", "third")

Shown = Mapping[tuple[str, ...], float]


class Later(SystemEffects):
    """A clock that is an hour ahead of when everything was done."""

    def now_ms(self) -> int:
        return super().now_ms() + int(HOUR * 1000)


@pytest.fixture
def doors(
    services: Services, sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Road]:
    """The doors of the system, and nobody behind them."""
    monkeypatch.setattr(worker, "WORKER_POLL_MS", 50)
    settings = make_settings(
        tmp_path,
        broker=services.broker,
        database=services.database,
        sandbox=sandbox,
        redis_url=services.redis,
    )
    doors = Road(settings, sandbox)
    migrate.upgrade(doors.app.database)
    yield doors
    doors.stop()


@pytest.fixture
def reading(doors: Road) -> Iterator[Gauges]:
    """The gauges' sources."""
    opened = Gauges(doors.app)
    yield opened
    opened.close()


def shown(reading: Gauges) -> dict[Gauge, Shown]:
    """The broker's gauges as they stand."""
    return {read.gauge: read.samples for read in reading.read_broker()}


def an_hour(seconds: float) -> bool:
    """Whether it is about an hour."""
    return abs(seconds - HOUR) < SLACK


def test_with_no_worker_depth_and_age_are_right_and_looking_takes_nothing_away(
    doors: Road, reading: Gauges
) -> None:
    for account in ACCOUNTS:
        doors.publish(
            AccountUpdated(
                revision=1, plan="business", ai_consent=True, credits=None, credit_period=ALWAYS
            ),
            account,
        )
    doors.app.effects = Later()
    for _ in range(2):
        found = shown(reading)
        assert found[gauges.QUEUE_DEPTH]["accounts", "broker"] == 3
        assert found[gauges.QUEUE_DEPTH]["keys", "broker"] == 0
        assert an_hour(found[gauges.QUEUE_AGE]["accounts", "broker"])
        assert found[gauges.QUEUE_AGE]["keys", "broker"] == 0
    doors.app.effects = SystemEffects()
    doors.start()

    def all_known() -> bool:
        with doors.app.database.read() as connection:
            return all(accounts.find(connection, account) for account in ACCOUNTS)

    doors.until(all_known)


def test_a_message_that_does_not_say_when_it_was_sent_ages_from_when_it_was_seen(
    doors: Road, reading: Gauges
) -> None:
    future = {"message_timestamp": 10**18, "queue_name": "keys"}
    doors.put_raw("keys", b"no message at all", {})
    doors.put_raw("analyses", json.dumps(future).encode(), {})
    for queue in ("keys", "analyses"):
        assert shown(reading)[gauges.QUEUE_AGE][queue, "broker"] < SLACK
    doors.app.effects = Later()
    for queue in ("keys", "analyses"):
        assert an_hour(shown(reading)[gauges.QUEUE_AGE][queue, "broker"])
