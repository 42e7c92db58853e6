"""Time, identity and chance as the machine gives them."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from workers.effects import SystemEffects, moment


@pytest.fixture
def effects() -> SystemEffects:
    return SystemEffects()


def test_a_later_id_sorts_after_an_earlier_one(effects: SystemEffects) -> None:
    ids = [effects.new_id() for _ in range(5_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_ids_of_many_threads_are_all_different(effects: SystemEffects) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [
            made
            for done in [
                pool.submit(lambda: [effects.new_id() for _ in range(500)]) for _ in range(8)
            ]
            for made in done.result()
        ]
    assert len(set(made)) == 4_000


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time(effects: SystemEffects) -> None:
    before = effects.now_ms()
    made = uuid.UUID(effects.new_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= effects.now_ms() + 1


def test_ids_go_on_in_order_when_the_clock_is_set_back(
    effects: SystemEffects, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    monkeypatch.setattr("workers.effects.time.time_ns", lambda: now)
    first = effects.new_id()
    monkeypatch.setattr("workers.effects.time.time_ns", lambda: now - 5_000_000_000)
    assert effects.new_id() > first


def test_two_processes_make_different_ids() -> None:
    assert SystemEffects().new_id() != SystemEffects().new_id()


def test_now_is_aware_and_to_the_millisecond(effects: SystemEffects) -> None:
    before = effects.now_ms()
    now = moment(effects)
    assert now.utcoffset() is not None
    assert before <= round(now.timestamp() * 1000) <= effects.now_ms()


def test_random_bytes_are_as_many_as_asked_for(effects: SystemEffects) -> None:
    assert [len(effects.random_bytes(n)) for n in (0, 1, 32)] == [0, 1, 32]
    assert effects.random_bytes(32) != effects.random_bytes(32)


def test_jitter_is_from_nothing_up_to_one(effects: SystemEffects) -> None:
    assert all(0 <= effects.jitter() < 1 for _ in range(1_000))


def test_waiting_ends_when_it_is_to_stop(effects: SystemEffects) -> None:
    stop = threading.Event()
    assert effects.wait(0, stop) is False
    stop.set()
    assert effects.wait(600, stop) is True
