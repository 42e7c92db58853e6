"""Without our answer to a trap of the queue, a test fails: for each of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS

ROOT = Path(__file__).parents[2]
TRAPS = set(range(1, 20))


def test_every_trap_has_a_mutant() -> None:
    assert {mutant.trap for mutant in MUTANTS} - {0} == TRAPS


@pytest.mark.timeout(300)
def test_no_mutant_lives() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(MUTANTS), done.stderr
    assert [one["taken_out"] for one in told if one["how"] is None] == []
