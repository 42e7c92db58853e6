"""What commands print with `--json` is of the types that are documented."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.commands import Said, Shell
from tests.road import GOOD_OPENAI, Road
from workers.cli.output import OUTPUTS

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

ELSEWHERE = {"rekey", "top", "healthcheck", "contract write"}
"""Checked where they are tested: they need more around them."""

RUNS: list[tuple[str, list[str], str]] = [
    ("account set", ["acme", "--plan", "business", "--consent", "--credits", "5"], ""),
    ("account show", ["acme"], ""),
    ("keys add", ["acme", "openai", "--wait"], GOOD_OPENAI),
    ("keys add", ["acme", "anthropic"], "sk-ant-api03-sandbox-good-not-a-real-key-0002"),
    ("keys replace", ["acme", "openai", "--wait"], f"{GOOD_OPENAI}-2"),
    ("keys test", ["acme", "openai", "--wait"], ""),
    ("keys show", ["acme"], ""),
    ("keys history", ["acme"], ""),
    ("pause", ["provider", "openai"], ""),
    ("paused", [], ""),
    ("top", ["--interval", "0.1"], ""),
    ("resume", ["provider", "openai"], ""),
    ("doctor", [], ""),
    ("keys remove", ["acme", "openai", "--wait"], ""),
    ("failed list[]", [], ""),
    ("failed retry", ["--all"], ""),
    ("failed drop", ["--all"], ""),
    ("account delete", ["acme"], ""),
    ("db upgrade", [], ""),
    ("keygen", ["sealing"], ""),
]


def assert_documented(command: str, said: Said) -> None:
    shape: TypeAdapter[Any] = TypeAdapter(OUTPUTS[command])
    found = said.objects if command.endswith("[]") else [said.object]
    for one in found:
        shape.validate_python(one)


def test_each_commands_output_is_of_its_documented_type(road: Road, shell: Shell) -> None:
    road.put_raw("keys", b"no message", {})
    road.until(lambda: shell.byok("failed", "list", "--json").out)
    for command, arguments, stdin in RUNS:
        words = command.removesuffix("[]").split()
        said = shell.byok(*words, *arguments, "--json", stdin=stdin)
        # What is no message cannot be sent again, and stays.
        assert said.code == (1 if command == "failed retry" else 0), (command, said)
        assert_documented(command, said)
    shown = {command for command, _, _ in RUNS}
    assert shown | ELSEWHERE | {"failed show"} == set(OUTPUTS)


def test_stdout_holds_the_one_object_alone_also_where_something_is_wrong(
    road: Road, shell: Shell, tmp_path: Path
) -> None:
    said = shell.byok("doctor", "--json", BYOK_BROKER_URL="redis://127.0.0.1:1")
    assert said.code == 1
    assert_documented("doctor", said)
    assert said.err == "byok: Not well: broker.\n"
    assert road.settings.state_dir.exists()
