"""An exporter as deployed: a user of Redis and a role of PostgreSQL that may only look."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.local.sandbox import SandboxServer
from metrics import gauges
from store import migrate
from store.engine import Database
from tests.integration.deploy.conftest import as_role
from tests.road import make_settings
from workers.app import App
from workers.gauges import Gauges


@pytest.fixture
def reading(
    users: dict[str, str], owned: str, sandbox: SandboxServer, tmp_path: Path
) -> Iterator[Gauges]:
    """The gauges' sources, with the rights of an exporter alone."""
    plain = owned.replace("postgresql+psycopg:", "postgresql:")
    database = as_role(plain, "reader").replace("postgresql:", "postgresql+psycopg:")
    owner = Database(as_role(plain, "owner").replace("postgresql:", "postgresql+psycopg:"))
    migrate.upgrade(owner)
    owner.close()
    address = users["reader"]
    settings = make_settings(
        tmp_path,
        broker=f"{address}?db=0",
        redis_url=f"{address}?db=1",
        database=database,
        sandbox=sandbox,
    )
    app = App(settings, role="exporter")
    opened = Gauges(app)
    yield opened
    opened.close()
    app.close()


def test_an_exporter_reads_all_gauges_with_its_own_rights(
    reading: Gauges, users: dict[str, str]
) -> None:
    with redis.Redis.from_url(f"{users['admin']}?db=0") as admin:
        admin.hset("byok:keys.msgs", "1", "{}")
        admin.rpush("byok:keys", "1")
    found = {read.gauge: read.samples for source in reading.sources() for read in source.read()}
    assert {gauge for gauge in gauges.ALL if gauge not in found} == {
        gauges.UP,
        gauges.READ_AGE,
        gauges.BUILD,
    }
    (broker, _) = reading.read_broker()
    assert broker.samples["keys", "broker"] == 1
