"""`make simulate`: histories without end, or one again with what happened in it."""

import argparse
import gc
import sys
import time

from tests.simulation.simulation import Simulation, Store, quiet


def run_one(seed: int, store: Store, *, tell: bool) -> list[str]:
    """Run one history; what did not hold."""
    simulation = Simulation(seed, store)
    failures = simulation.run()
    if tell:
        print("\n".join(simulation.world.trace))
    return failures


def main() -> int:
    """Run histories; 1 where one of them broke an invariant."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one history and tell what happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories to run")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    given = parser.parse_args()
    store = Store()
    failed: list[int] = []
    with quiet():
        if given.seed is not None:
            failures = run_one(given.seed, store, tell=True)
            print("\n".join(failures) or "everything holds")
            return bool(failures)
        began = time.monotonic()
        for count, seed in enumerate(range(given.first, given.first + given.seeds), 1):
            failures = run_one(seed, store, tell=False)
            if failures:
                print(f"SEED={seed}: {failures[0]}", flush=True)
                failed.append(seed)
                if not given.keep_going:
                    break
            if count % 100 == 0:
                gc.collect()
                rate = count / (time.monotonic() - began)
                print(f"{count} histories, {rate:.1f}/s", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
