"""Messages that were set aside and are sent on their way again, while workers go on."""

import json
import threading
from typing import Any

import pytest

from events import Publisher
from events.keys import KEYS_QUEUE
from store import setaside
from store.setaside import SetAside
from tests.commands import Shell
from tests.road import PATIENCE, Road
from workers import boundary


class Refusals:
    """How often workers have set something aside, commit and all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._another = threading.Semaphore(0)
        real = boundary.set_aside

        def counted(*arguments: Any) -> None:
            real(*arguments)
            self._another.release()

        monkeypatch.setattr("workers.boundary.set_aside", counted)

    def await_one(self) -> None:
        """Wait for one that was not waited for."""
        assert self._another.acquire(timeout=PATIENCE)


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """What workers set aside."""
    return Refusals(monkeypatch)


def kept(road: Road) -> list[SetAside]:
    with road.app.database.read() as connection:
        return setaside.newest(connection)


def refused(road: Road, refusals: Refusals) -> SetAside:
    """A message that no worker takes, as it was set aside."""
    event = json.dumps({"type": "byok.unheard.of.v1"})
    road.app.publisher.send(KEYS_QUEUE, "keys_event", event)
    refusals.await_one()
    (item,) = kept(road)
    return item


def test_what_is_set_aside_again_before_its_retry_ends_is_kept(
    road: Road, shell: Shell, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = refused(road, refusals)
    real = Publisher.resend

    def resent(publisher: Publisher, queue: str, payload: bytes) -> None:
        real(publisher, queue, payload)
        # A worker is quicker than the command, which is still to note that it has sent it.
        refusals.await_one()

    monkeypatch.setattr(Publisher, "resend", resent)
    assert shell.byok("failed", "retry", item.id, "--json").object == {"retried": 1}
    assert [again.id for again in kept(road)] == [item.id]


def test_what_is_set_aside_again_after_its_retry_is_kept(
    road: Road, shell: Shell, refusals: Refusals
) -> None:
    item = refused(road, refusals)
    for _ in range(2):
        assert shell.byok("failed", "retry", "--all", "--json").object == {"retried": 1}
        refusals.await_one()
        assert [again.id for again in kept(road)] == [item.id]


def test_of_two_that_retry_the_same_the_later_sends_nothing(
    road: Road, shell: Shell, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(road, refusals)
    real = setaside.newest

    def newest(*arguments: Any) -> list[SetAside]:
        chosen = real(*arguments)
        # Another has retried it since, and it went well.
        with road.app.database.write() as connection:
            for item in chosen:
                setaside.remove(connection, item.id)
        return chosen

    monkeypatch.setattr("store.setaside.newest", newest)
    assert shell.byok("failed", "retry", "--all", "--json").object == {"retried": 0}
