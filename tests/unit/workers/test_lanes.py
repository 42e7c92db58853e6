"""Lanes: so many threads work at once, and one that waits lets another work."""

import threading
from concurrent.futures import ThreadPoolExecutor

from workers.lanes import Lanes

PATIENCE = 20


def test_no_more_threads_work_at_once_than_there_are_lanes() -> None:
    lanes, lock = Lanes(3), threading.Lock()
    working, most = 0, 0
    # All three are in a lane together before the first leaves: so three at once is seen, too.
    together = threading.Barrier(3)

    def work(_number: int) -> None:
        nonlocal working, most
        with lanes.working():
            with lock:
                working += 1
                most = max(most, working)
            together.wait(PATIENCE)
            with lock:
                working -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))
    assert most == 3


def test_a_thread_that_rests_lets_another_work_and_then_waits_its_turn() -> None:
    lanes = Lanes(1)
    rested, told = threading.Event(), []

    def other() -> None:
        with lanes.working():
            told.append("other")
            rested.set()

    with ThreadPoolExecutor(1) as pool, lanes.working():
        told.append("first")
        with lanes.resting():
            pool.submit(other).result(PATIENCE)
        told.append("first again")
    assert told == ["first", "other", "first again"]


def test_a_thread_without_a_lane_may_rest() -> None:
    lanes = Lanes(1)
    with lanes.resting(), lanes.working():
        pass


def test_a_lane_is_given_back_by_a_thread_that_fails() -> None:
    lanes = Lanes(1)
    for _ in range(2):
        try:
            with lanes.working(), lanes.resting():
                raise OSError
        except OSError:
            pass
    with lanes.working():
        pass
