"""Runs an older version over a store and a queue of today's.

It is run from a checkout of that version. The first line of standard input is a JSON object:
`state_dir`, `broker`, `redis`, `database`, `sandbox` (URLs) and `at`. With a time in `at` (Unix ms,
which it is to be now) what was recorded is brought to its end; with none it says `ready` and works
on until standard input ends.
"""

import json
import sys
from pathlib import Path

# Beside this file; `tests` is that of the older version here.
from ending import Clock, bring_to_its_end

import workers
from deploy.local.sandbox.control_client import SandboxControl
from store import migrate
from tests.road import Road, make_settings


def main() -> None:
    """Run it. Fails where something does not come to its end."""
    assert Path(workers.__file__).is_relative_to(Path.cwd())
    given = json.loads(sys.stdin.readline())
    sandbox = SandboxControl(given["sandbox"])
    settings = make_settings(
        Path(given["state_dir"]),
        broker=given["broker"],
        redis_url=given["redis"],
        database=given["database"],
        sandbox=sandbox,
    )
    road = Road(settings, sandbox)
    # The schema is the newer version's, which this one has no migrations for.
    assert migrate.missing(road.app.database) == []
    migrate.upgrade = lambda _: None
    clock = None if given["at"] is None else Clock(given["at"])
    road.start()
    try:
        if clock is None:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.read()
        else:
            bring_to_its_end(road, clock, queued=True)
    finally:
        road.stop()


if __name__ == "__main__":
    main()
