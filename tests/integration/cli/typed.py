"""Runs commands one after another in one process, as if typed: `python typed.py '[["paused"]]'`.

Before each it writes a line with U+001E and its number.
"""

import json
import sys
from contextlib import suppress
from functools import partial

from workers.cli.guard import guard
from workers.cli.main import app


def main() -> None:
    """Run what the argument lists, as JSON."""
    for number, words in enumerate(json.loads(sys.argv[1])):
        sys.stdout.write(f"\x1e{number}\n")
        sys.stdout.flush()
        with suppress(SystemExit):
            guard(partial(app.main, words, prog_name="byok"))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
