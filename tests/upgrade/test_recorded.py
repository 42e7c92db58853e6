"""What older versions left in the midst of their work is brought to its end by this one."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import RowMapping, select

from deploy.local.sandbox import SandboxServer
from store import accounts, audit, ledger, setaside
from store import analyses as requests
from store.engine import Database
from store.schema import analyses
from tests.conftest import Services
from tests.road import Road, make_settings
from tests.upgrade.recording import RECORDED, Message, Recording
from workers import worker
from workers.effects import SystemEffects

SOON = 20_000
"""Milliseconds from the recording to the upgrade: its processes are dead, what waits for its
account waits on."""
LATER = 180_000
"""All that waited for its time is due."""

RUN_ON = {
    "waiting-rate": "slow",
    "waiting-verdict": "late",
    "running-own-key": "acme",
    "running-platform": "bare",
    "waiting-account": "early",
}
QUEUED = {"queued-own-key": "acme", "queued-platform": "bare"}
UNBOOKED = "completed-unbooked"


class Clock:
    """The system's time, by which the recording was made just now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, starts_at: int) -> None:
        real = SystemEffects().now_ms
        self._ahead = starts_at - real()
        monkeypatch.setattr(SystemEffects, "now_ms", lambda _: real() + self._ahead)

    def pass_time(self, milliseconds: int) -> None:
        """Move on."""
        self._ahead += milliseconds


@pytest.fixture(params=RECORDED, ids=lambda path: f"from-{path.stem}")
def recording(request: pytest.FixtureRequest) -> Recording:
    """What each older version left."""
    path: Path = request.param
    return Recording.read(path)


@pytest.fixture
def clock(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands a little after the recording."""
    return Clock(monkeypatch, recording.at + SOON)


@pytest.fixture
def road(
    recording: Recording,
    clock: Clock,
    services: Services,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Road]:
    """This version, upgrading the store of the recording when it is started."""
    monkeypatch.setattr(worker, "WORKER_POLL_MS", 50)
    database = Database(services.database)
    recording.lay_into(database)
    database.close()
    settings = make_settings(
        tmp_path,
        broker=services.broker,
        database=services.database,
        sandbox=sandbox,
        redis_url=services.redis,
    )
    running = Road(settings, sandbox)
    yield running
    running.stop()


def put(road: Road, messages: list[Message]) -> None:
    for message in messages:
        road.put_raw(message.queue, message.body, dict(message.options))


def bring_to_its_end(road: Road, clock: Clock, *, queued: bool) -> None:
    """Let what is due now and later be done, and all of it come onto the ledger."""
    # The account whose events came ahead of it.
    road.account("early", credits=10)
    road.until(lambda: (key := road.key("key-early")) is not None and key.status == "valid")
    clock.pass_time(LATER)
    for request_id, account in (RUN_ON | (QUEUED if queued else {})).items():
        found = road.ended(request_id, account)
        assert (found.state, found.reason) == ("completed", ""), request_id
    road.until(lambda: (key := road.key("key-late")) is not None and key.status == "valid")
    road.settled_ledger()


def rows_of(road: Road) -> dict[str, RowMapping]:
    """All requests that are no two accounts', by id."""
    with road.app.database.read() as connection:
        rows = connection.execute(select(analyses)).mappings().all()
    return {row["request_id"]: row for row in rows if row["request_id"] != UNBOOKED}


def check_books(road: Road, recording: Recording) -> None:
    """Each billed call is on the ledger once, each completed request counted once."""
    with road.app.database.snapshot() as connection:
        assert audit.audit(connection).findings == []
        # Those of which nobody knows whether they were paid are listed.
        assert {one.request_id for one in requests.unknown_attempts(connection)} == {
            "running-own-key",
            "running-platform",
        }
        rows = ledger.rows_of(connection)
    booked = {row.id: row.cost_nano_usd for row in rows}
    for row in recording.tables["ledger"]:
        assert booked[row["id"]] == row["cost_nano_usd"]
    completes = Counter(row.request_id for row in rows if row.completes)
    assert completes.pop(UNBOOKED) == 2
    completed = {name for name, row in rows_of(road).items() if row["state"] == requests.COMPLETED}
    assert completes == dict.fromkeys(completed, 1)


def check_what_had_ended(road: Road, recording: Recording) -> None:
    """What had ended is as it was."""
    now = rows_of(road)
    for row in recording.tables["analyses"]:
        if row["state"] in requests.TERMINAL and row["request_id"] != UNBOOKED:
            kept = now[row["request_id"]]
            for name, value in row.items():
                is_json = name in ("result", "usage") and value is not None
                assert kept[name] == (json.loads(value) if is_json else value), name


def check_what_was_told(road: Road) -> None:
    """What the outbox held has gone out, and what was set aside can still be read."""
    told = [event["data"]["request_id"] for event in road.out_events("analysis.completed")]
    assert {UNBOOKED, *RUN_ON} <= set(told)
    with road.app.database.read() as connection:
        (item,) = setaside.newest(connection)
        payload = setaside.payload(connection, road.app.vault, item.id)
    assert json.loads(payload) == {"type": "byok.unheard.of.v1"}


def test_what_an_older_version_left_is_brought_to_its_end(
    road: Road, recording: Recording, clock: Clock
) -> None:
    """Every message of its time comes again, those that were acted on among them."""
    road.start()
    put(road, recording.taken + recording.not_taken)
    bring_to_its_end(road, clock, queued=True)
    for queue in ("accounts", "keys", "validations", "analyses", "usage"):
        road.until(lambda name=queue: road.unacknowledged(name) == 0)
    check_books(road, recording)
    check_what_had_ended(road, recording)
    check_what_was_told(road)
    assert road.credits("bare") == (4, 0)
    key = road.key("key-moved-4")
    assert key is not None
    assert key.status == "valid"
    # An account that was deleted does not live again by what was published before.
    with road.app.database.read() as connection:
        assert accounts.find(connection, "gone") is None
    assert not any("skipped-consent" in json.dumps(one) for one in road.sandbox.record())


@pytest.mark.parametrize("services", ["sqlite-valkey", "postgresql-valkey"], indirect=True)
def test_what_an_older_version_left_is_in_its_store_alone(
    road: Road, recording: Recording, clock: Clock
) -> None:
    """The queue comes back empty: only what no worker had taken yet is lost with it."""
    road.start()
    bring_to_its_end(road, clock, queued=False)
    check_books(road, recording)
    check_what_had_ended(road, recording)
    check_what_was_told(road)
    assert road.credits("bare") == (3, 0)
