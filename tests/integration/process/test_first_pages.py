"""The ten-minute page for Python, followed to the letter beside a `byok up`."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.process.running import ROOT, Up

PAGE = ROOT / "docs" / "first-key-python.md"
PUBLISH = ROOT / "docs" / "events.md"


@pytest.fixture(scope="module")
def publisher(up: Up) -> dict[str, str]:
    """The environment that the page has made."""
    printed = up.byok("contract", "environment").out
    variables = dict(line.split("=", 1) for line in printed.splitlines())
    assert set(variables) == {
        "BYOK_BROKER_URL",
        "BYOK_REDIS_URL",
        "BYOK_SEALING_PUBLIC_KEY",
        "BYOK_SOURCE",
    }
    unquoted = {name: shlex.split(value)[0] for name, value in variables.items()}
    kept = {name: up.environment[name] for name in ("PATH", "HOME", "LANG")}
    return {**kept, **unquoted, "PYTHONPATH": str(ROOT)}


def run(code: str, environment: dict[str, str], stdin: str) -> list[str]:
    """Run a program that must succeed; its lines."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def python_of(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return [part.partition("```")[0] for part in page.read_text().split("```python\n")[1:]]


def test_the_page_goes_from_a_key_to_an_analysis_on_it(up: Up, publisher: dict[str, str]) -> None:
    program = "\n".join(python_of(PAGE))
    *verdicts, told = run(program, publisher, "sk-proj-sandbox-anything-goes-here\n")
    assert verdicts == ["The key is pending ", "The key is valid ok"]
    completed = json.loads(told)
    assert completed["type"] == "byok.analysis.completed.v1"
    (key,) = up.json("keys", "show", "first-account")["keys"]
    assert (key["status"], key["last4"], key["requests"]) == ("valid", "here", 1)
    assert up.json("usage", "first-account")["operations"] == 1


def test_the_page_shows_a_key_that_is_invalid(publisher: dict[str, str]) -> None:
    program = "\n".join(python_of(PAGE)).replace("first-account", "second-account")
    told = run(program, publisher, "sk-proj-sandbox-invalid-key-goes-here\n")
    assert told[-1].startswith("The key is invalid ")


def test_a_key_is_published_as_the_event_page_says(up: Up, publisher: dict[str, str]) -> None:
    up.road.account("acme")
    (code,) = (one for one in python_of(PUBLISH) if "KeyAdded" in one)
    given = "import sys\npasted = sys.stdin.readline().strip()\n"
    run(given + code.replace("revision=7", f"revision={up.road.revision()}"), publisher, "sk-x\n")
    assert up.json("keys", "show", "acme")["keys"][0]["key_id"] == "key-1"
