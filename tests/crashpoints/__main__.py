"""`make crashpoints`: a worker and a scheduler end at each boundary, and at seeded pairs of them.

First a history in which nobody ends tells the boundaries. Then there is one history for each, and
then those in which two processes of each role end. Several are lived at a time, in lanes that have
services of their own. Prints a line for each history, and of those that went wrong where their
files are.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.crashpoints.lanes import Tried, live, open_lane, services
from tests.crashpoints.lives import ROLES

SERVICES = ("sqlite-valkey", "postgresql-valkey", "postgresql-rabbitmq", "postgresql-redis")


def _matrix(met: dict[str, list[str]], pairs: int, seed: int) -> list[dict[str, list[str]]]:
    single = [{role: [place]} for role in ROLES for place in met[role]]
    chance = random.Random(seed)
    twice = [
        {role: [chance.choice(met[role]) for _ in range(2)] for role in ROLES} for _ in range(pairs)
    ]
    return single + twice


def _run(kind: str, given: argparse.Namespace) -> list[Tried]:
    """All histories on one pair of services; those that went wrong."""
    directory = Path(tempfile.mkdtemp(prefix=f"byok-crash-{kind}-"))
    began = time.monotonic()
    spawn = get_context("spawn")
    with services(kind, given.lanes) as found:
        lanes = spawn.Queue()
        for one in found:
            lanes.put(one)
        with ProcessPoolExecutor(
            len(found), mp_context=spawn, initializer=open_lane, initargs=(lanes, directory)
        ) as pool:
            lived, first = pool.submit(live, {}).result()
            if lived is None:
                raise SystemExit(f"{kind}: the history in which nobody ends: {first.wrong}")
            counts = ", ".join(f"{len(lived.boundaries[role])} of the {role}" for role in ROLES)
            print(f"{kind}: boundaries: {counts}; {len(found)} lanes", flush=True)
            matrix = _matrix(lived.boundaries, given.pairs, given.seed)
            if given.sample:
                matrix = random.Random(given.seed).sample(matrix, min(given.sample, len(matrix)))
            tried = []
            for done in as_completed([pool.submit(live, ends) for ends in matrix]):
                tried.append(done.result()[1])
                print(f"{kind} {len(tried)}/{len(matrix)} {tried[-1]}", flush=True)
    wrong = [one for one in tried if one.wrong]
    reached = sum(one.ended == one.ends for one in tried)
    print(
        f"{kind}: {len(tried)} histories in {time.monotonic() - began:.0f} s, "
        f"{reached} ended where they were told, {len(wrong)} wrong",
        flush=True,
    )
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where a history went wrong."""
    parser = argparse.ArgumentParser(prog="make crashpoints", description=__doc__)
    parser.add_argument("services", nargs="*", default=SERVICES, help="pairs of store and queue")
    parser.add_argument("--lanes", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--pairs", type=int, default=30, help="histories with two ends of each")
    parser.add_argument("--seed", type=int, default=1, help="for pairs and samples")
    parser.add_argument("--sample", type=int, default=0, help="only so many of the histories")
    given = parser.parse_args(arguments)
    wrong = [one for kind in given.services for one in _run(kind, given)]
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
