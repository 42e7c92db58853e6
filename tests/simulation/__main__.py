"""`make simulate`: histories without end, or one again with what happened in it."""

import argparse
import gc
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context

from tests.simulation.simulation import Simulation, Store, quiet

BLOCK = 50
"""So many histories are run by a process before it is asked how they went."""

_store = cache(Store)


def tell(seed: int, *, flooded: bool) -> int:
    """Run one history and tell what happens; 1 where something did not hold."""
    with quiet():
        simulation = Simulation(seed, _store(), flooded=flooded)
        failures = simulation.run()
    print("\n".join((*simulation.world.trace, *(failures or ["everything holds"]))))
    return bool(failures)


def run_block(first: int, *, end: int, flooded: bool) -> tuple[int, list[tuple[int, str]]]:
    """Run the histories from a seed on; how many, and (seed, what did not hold)."""
    # What a history leaves is collected after the block: to look all the while costs a fifth.
    gc.disable()
    seeds = range(first, min(first + BLOCK, end))
    with quiet():
        ended = [(seed, Simulation(seed, _store(), flooded=flooded).run()) for seed in seeds]
    gc.collect()
    return len(seeds), [(seed, failures[0]) for seed, failures in ended if failures]


def run_all(first: int, seeds: int, jobs: int, *, flooded: bool, keep_going: bool) -> int:
    """Run histories in several processes; 1 where one of them broke an invariant."""
    began, count, failed = time.monotonic(), 0, 0
    end = first + seeds
    # Forked, so that each process has everything loaded.
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        run = partial(run_block, end=end, flooded=flooded)
        for ran, failures in pool.map(run, range(first, end, BLOCK)):
            count += ran
            failed += len(failures)
            for seed, failure in failures:
                print(f"SEED={seed}: {failure}", flush=True)
            rate = count / (time.monotonic() - began)
            print(f"{count} histories, {rate:.1f}/s", flush=True)
            if failures and not keep_going:
                pool.shutdown(cancel_futures=True)
                break
    return bool(failed)


def main() -> int:
    """Run histories; 1 where one of them broke an invariant."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one history and tell what happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories to run")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes to run in")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    parser.add_argument(
        "--flooded", action="store_true", help="nothing goes wrong, and one account asks too much"
    )
    given = parser.parse_args()
    if given.seed is not None:
        return tell(given.seed, flooded=given.flooded)
    return run_all(
        given.first, given.seeds, given.jobs, flooded=given.flooded, keep_going=given.keep_going
    )


if __name__ == "__main__":
    sys.exit(main())
