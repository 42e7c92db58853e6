"""`make mutants`: takes each answer out and runs the tests that must fail without it.

Prints a line for each: trap, what was taken out, and how the first test failed.
"""

import argparse
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


class Witness:
    """Notes how the first test failed, and whether that was in its own body."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.how: str | None = None

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)
        if report.when == "call" and report.failed and self.how is None:
            crash = getattr(report.longrepr, "reprcrash", None)
            told = crash.message if crash else str(report.longrepr)
            self.how = told.splitlines()[0][:160]


def run(tests: tuple[str, ...]) -> Witness:
    """Run tests in this process; what they showed."""
    witness = Witness()
    options = ["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        pytest.main([*options, *(str(ROOT / test) for test in tests)], plugins=[witness])
    if witness.how is None and not witness.passed:
        raise SystemExit(f"no test was run of {', '.join(tests)}: the table is out of date")
    return witness


def killed_by(mutant: Mutant) -> str | None:
    """How the first test failed without the answer, or `None` where all passed."""
    with mutant.patch():
        return run(mutant.tests).how


def main() -> int:
    """1 where a mutant lived."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("traps", nargs="*", type=int, help="only these")
    parser.add_argument("--json", action="store_true", help="one object a line")
    given = parser.parse_args()
    alive = 0
    for mutant in MUTANTS:
        if given.traps and mutant.trap not in given.traps:
            continue
        how = killed_by(mutant)
        alive += how is None
        told = {"trap": mutant.trap, "taken_out": mutant.taken_out, "how": how}
        if given.json:
            print(json.dumps(told), flush=True)
        else:
            print(f"{mutant.trap:3} {mutant.taken_out}\n    {how or 'ALIVE'}", flush=True)
    return bool(alive)


if __name__ == "__main__":
    sys.exit(main())
