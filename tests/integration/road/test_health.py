"""A worker that is stuck is not alive; one whose broker is away is, and waits for it."""

import threading

import dramatiq.worker
import pytest
import redis

from tests.conftest import Services
from tests.road import Road
from workers import health, scheduler
from workers.broker.redis import RedisWorkerBroker

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)


@one_road
def test_a_consumer_that_is_stuck_is_seen(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WEDGED_SECONDS", 2.5)
    road.until(lambda: road.worker_app.health.ready().ok)
    held, fetch = threading.Event(), RedisWorkerBroker.fetch

    def stuck(self: RedisWorkerBroker, queue: str, count: int) -> list[tuple[str, bytes]]:
        if queue == "analyses":
            held.wait(30)
        return fetch(self, queue, count)

    monkeypatch.setattr(RedisWorkerBroker, "fetch", stuck)
    try:
        road.until(lambda: not road.worker_app.health.live().ok)
        assert list(road.worker_app.health.live().wrong) == ["consumer of analyses"]
    finally:
        held.set()
    road.until(lambda: road.worker_app.health.live().ok)


@one_road
def test_a_broker_that_answers_nobody_makes_the_roles_unready_and_leaves_them_alive(
    road: Road, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.1)
    monkeypatch.setattr(scheduler, "BROKER_ASKED_SECONDS", 0.1)
    road.until(lambda: all(app.health.ready().ok for app in road.roles))
    with redis.Redis.from_url(services.broker) as admin:
        admin.config_set("requirepass", "nobody-knows")
        admin.client_kill_filter(_type="normal", skipme=True)
        try:
            road.until(lambda: not any(app.health.ready().ok for app in road.roles))
            for app in road.roles:
                assert app.health.live().ok
                assert any("broker" in part for part in app.health.ready().wrong)
        finally:
            admin.config_set("requirepass", "")
    road.until(lambda: all(app.health.ready().ok for app in road.roles))
