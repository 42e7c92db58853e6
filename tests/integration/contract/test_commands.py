"""`byok contract`, as a publisher's programmer uses it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from events.contract import REFUSALS, Vectors, write


def byok(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", "contract", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def told(*arguments: str) -> Any:
    """What the command says in JSON."""
    done = byok(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def test_the_vectors_are_printed_for_anybody_else(vectors: Vectors) -> None:
    assert told("vectors") == vectors
    plain = byok("vectors")
    assert json.loads(plain.stdout) == vectors


def test_our_code_is_checked_against_the_vectors() -> None:
    checked = told("vectors", "--check")
    assert checked["ok"]
    assert all(one["ok"] and not one["problems"] for one in checked["vectors"])
    plain = byok("vectors", "--check")
    assert plain.returncode == 0
    for one in checked["vectors"]:
        assert one["name"] in plain.stdout


def test_a_vector_that_does_not_hold_ends_the_check_with_its_name(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "vectors.json"
    path.write_text(path.read_text().replace('"reason": "unsigned"', '"reason": "untold"'))
    done = byok("vectors", "--check", "--directory", str(tmp_path))
    assert done.returncode == 1
    assert "vectors do not hold: unsigned." in done.stderr


def test_without_vectors_the_command_says_what_to_do(tmp_path: Path) -> None:
    done = byok("vectors", "--directory", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "run `byok contract write`" in done.stderr


def test_the_files_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    assert "vectors.json" in told("write", "--directory", str(tmp_path))["changed"]
    assert told("write", "--directory", str(tmp_path)) == {"changed": []}


def test_every_refusal_is_listed() -> None:
    listed = told("refusals")["refusals"]
    assert {one["reason"] for one in listed} == {one.reason for one in REFUSALS}
    plain = byok("refusals")
    assert all(one.reason in plain.stdout for one in REFUSALS)
