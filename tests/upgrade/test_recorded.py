"""What older versions left in the midst of their work is brought to its end by this one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.sandbox import SandboxServer
from store import accounts
from store.engine import Database
from tests.conftest import Services
from tests.road import Road, make_settings
from tests.upgrade.checks import check_books, check_what_had_ended, check_what_was_told
from tests.upgrade.ending import SOON, Clock, bring_to_its_end
from tests.upgrade.recording import RECORDED, Recording
from workers import worker


@pytest.fixture(params=RECORDED, ids=lambda path: f"from-{path.stem}")
def recording(request: pytest.FixtureRequest) -> Recording:
    """What each older version left."""
    path: Path = request.param
    return Recording.read(path)


@pytest.fixture
def clock(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands a little after the recording."""
    return Clock(recording.at + SOON, monkeypatch.setattr)


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


def test_what_an_older_version_left_is_brought_to_its_end(
    road: Road, recording: Recording, clock: Clock
) -> None:
    """Every message of its time comes again, those that were acted on among them."""
    road.start()
    recording.put_on_queues(road)
    bring_to_its_end(road, clock, queued=True)
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
