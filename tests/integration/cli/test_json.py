"""What commands print with `--json` is of the types that are documented."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.commands import Said, Shell, environment_of
from tests.integration.process.running import MAILS, clean_environment
from tests.road import GOOD_OPENAI, Road
from workers.cli.output import OUTPUTS
from workers.queues import VALIDATIONS_QUEUE
from workers.settings import Settings

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

IN_PROCESSES = {"demo", "up"}
"""These have processes of their own: tests/integration/process looks at what they print."""

ROLES = ("worker", "scheduler", "exporter")

MAIL = str(MAILS / "easy-ham-1-00386.eml")
RUNS: list[tuple[str, list[str], str]] = [
    ("account set", ["acme", "--plan", "business", "--consent", "--credits", "5"], ""),
    ("account show", ["acme"], ""),
    ("keys add", ["acme", "openai", "--wait"], GOOD_OPENAI),
    ("keys add", ["acme", "anthropic"], "sk-ant-api03-sandbox-good-not-a-real-key-0002"),
    ("keys replace", ["acme", "openai", "--wait"], f"{GOOD_OPENAI}-2"),
    ("keys test", ["acme", "openai", "--wait"], ""),
    ("keys show", ["acme"], ""),
    ("keys history", ["acme"], ""),
    ("analyze[]", ["acme", MAIL, "--wait"], ""),
    ("analyze[]", ["acme", MAIL, "--operation", "summarize", "--wait"], ""),
    ("usage card", ["acme"], ""),
    ("usage rebuild", [], ""),
    ("usage audit", [], ""),
    ("usage reprice", [], ""),
    ("events[]", [], ""),
    ("pause", ["provider", "openai"], ""),
    ("paused", [], ""),
    ("top", ["--interval", "0.1"], ""),
    ("resume", ["provider", "openai"], ""),
    ("revalidate", ["--due"], ""),
    ("revalidate", ["--all"], ""),
    ("rekey", [], ""),
    ("doctor", [], ""),
    ("keys remove", ["acme", "openai", "--wait"], ""),
    ("failed list[]", [], ""),
    ("failed retry", ["--all"], ""),
    ("failed drop", ["--all"], ""),
    ("account delete", ["acme"], ""),
    ("db upgrade", [], ""),
]
"""In this order, on a system that runs."""

RESTORED = "db restored"
"""Where no process works on the store."""

ALONE: list[tuple[str, list[str]]] = [
    ("keygen", ["sealing"]),
    ("contract environment", []),
    ("contract vectors", []),
    ("contract vectors", ["--check"]),
    ("contract refusals", []),
    ("healthcheck", ["worker"]),
]
"""Where nothing runs."""


def assert_documented(command: str, said: Said) -> None:
    """What a command printed is of the type that is documented of it."""
    shape: TypeAdapter[Any] = TypeAdapter(OUTPUTS[command])
    found = said.objects if command.endswith("[]") else [said.object]
    assert found, f"{command} prints nothing"
    for one in found:
        shape.validate_python(one)


def test_each_commands_output_is_of_its_documented_type(
    road: Road, shell: Shell, tmp_path: Path
) -> None:
    road.put_raw("keys", b"no message", {})
    road.until(lambda: shell.byok("failed", "list", "--json").out)
    (item,) = shell.byok("failed", "list", "--json").objects
    of_one = ("failed show", [item["id"]], "")
    files = ("contract write", ["--directory", str(tmp_path / "contracts")], "")
    for command, arguments, stdin in (of_one, files, *RUNS):
        words = command.removesuffix("[]").split()
        said = shell.byok(*words, *arguments, "--json", stdin=stdin)
        # What is no message cannot be sent again, and stays.
        assert said.code == (1 if command == "failed retry" else 0), (command, said)
        assert_documented(command, said)
    road.stop_working()
    said = shell.byok(*RESTORED.split(), "--json")
    assert said.code == 0, said
    assert_documented(RESTORED, said)
    Settings.load_apart(tmp_path / "alone").prepare_state_dir()
    alone = Shell(shell.monkeypatch, shell.capsys, {"BYOK_STATE_DIR": str(tmp_path / "alone")})
    for command, arguments in ALONE:
        said = alone.byok(*command.split(), *arguments, "--json")
        assert said.code == (1 if command == "healthcheck" else 0), (command, said)
        assert_documented(command, said)
    shown = {command for command, *_ in (of_one, files, *RUNS, *ALONE)}
    assert shown | {RESTORED} | IN_PROCESSES | set(ROLES) == set(OUTPUTS)


def test_a_role_tells_its_addresses_once_it_has_started(road: Road, tmp_path: Path) -> None:
    environment = {
        **clean_environment(tmp_path / "other", {}),
        **environment_of(road.settings),
        "BYOK_STATE_DIR": str(tmp_path / "other"),
        "BYOK_QUEUES": VALIDATIONS_QUEUE,
        "BYOK_EXPORTER_PORT": "0",
    }
    (tmp_path / "other").mkdir()
    started = {
        role: subprocess.Popen(
            [sys.executable, "-m", "workers.cli", role, "--json", "--stop-on-stdin-eof"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for role in ROLES
    }
    for role, process in started.items():
        assert process.stdout is not None
        line = process.stdout.readline()
        told = json.loads(line)
        assert (told["role"], told["pid"]) == (role, process.pid)
        assert told["health"].startswith("http://127.0.0.1:")
        assert bool(told["metrics"]) == (role == "exporter")
        # Standard input ends, and with it the role.
        rest, _ = process.communicate(timeout=60)
        assert (process.returncode, rest) == (0, "")
        assert_documented(role, Said(0, line, ""))


def test_stdout_holds_the_one_object_alone_also_where_something_is_wrong(
    road: Road, shell: Shell
) -> None:
    said = shell.byok("doctor", "--json", BYOK_BROKER_URL="redis://127.0.0.1:1")
    assert said.code == 1
    assert_documented("doctor", said)
    assert said.err == "byok: Not well: broker.\n"
