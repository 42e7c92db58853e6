"""Every command says what it does, with an example, its exit codes, and what it prints as JSON."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.commands import Said, Shell
from workers.cli import exits, reference
from workers.cli.output import OUTPUTS

ALL = dict(reference.commands())

ARGUMENTS = {
    "account delete": ["acme"],
    "account set": ["acme", "--plan", "pro"],
    "account show": ["acme"],
    "analyze": ["acme", "-"],
    "failed drop": ["--all"],
    "failed retry": ["--all"],
    "failed show": ["nothing"],
    "healthcheck": ["worker"],
    "keygen": ["sealing"],
    "keys add": ["acme", "openai"],
    "keys history": ["acme"],
    "keys remove": ["acme", "openai"],
    "keys replace": ["acme", "openai"],
    "keys show": ["acme"],
    "keys test": ["acme", "openai"],
    "pause": ["provider", "openai"],
    "resume": ["provider", "openai"],
    "revalidate": ["--due"],
    "usage card": ["acme"],
}
"""What the commands have to be given that want something."""

WITHOUT_SETTINGS = {
    "healthcheck",
    "keygen",
    "contract refusals",
    "contract vectors",
    "contract write",
}
"""These read no setting, so that none can be wrong."""


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Where nothing was ever started."""
    return Shell(monkeypatch, capsys, {"BYOK_STATE_DIR": str(tmp_path), "COLUMNS": "300"})


@pytest.mark.parametrize("name", ALL)
def test_a_commands_help_has_an_example_of_it(name: str) -> None:
    shown = reference.example(ALL[name])
    assert shown is not None, "`Example: ` and the command, in its docstring"
    assert f"byok {name.removesuffix(' card')}" in shown


@pytest.mark.parametrize("name", ALL)
def test_a_commands_help_tells_its_exit_codes(name: str, shell: Shell) -> None:
    said = shell.byok(*name.split(), "--help")
    assert said.code == 0
    told = " ".join(said.out.split())
    for code, what in exits.codes(name).items():
        assert f"{code} {what}" in told


@pytest.mark.parametrize("name", ALL)
def test_a_command_takes_json_and_the_type_of_what_it_prints_is_there(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[name].params)
    known = {command.removesuffix("[]") for command in OUTPUTS}
    assert name in known, "its type belongs into workers.cli.output"


def test_nothing_is_documented_that_is_not_there() -> None:
    assert {name.removesuffix("[]") for name in OUTPUTS} == set(ALL)
    assert exits.FAILS.keys() <= set(ALL)
    assert ARGUMENTS.keys() | WITHOUT_SETTINGS <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_command_that_is_used_wrongly_exits_with_2(name: str, shell: Shell) -> None:
    said = shell.byok(*name.split(), *ARGUMENTS.get(name, ()), "--no-such-option")
    assert (said.code, said.out) == (2, "")
    assert "No such option: --no-such-option" in said.err
    assert_plain(said)


@pytest.mark.parametrize("name", [name for name in ALL if name not in WITHOUT_SETTINGS])
def test_a_command_that_is_refused_says_one_sentence_and_exits_with_1(
    name: str, shell: Shell
) -> None:
    words = [*name.split(), *ARGUMENTS.get(name, ())]
    for json in ([], ["--json"]):
        said = shell.byok(*words, *json, BYOK_ANALYSIS_THREADS="0")
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("byok: BYOK_ANALYSIS_THREADS is wrong: ")
        assert said.err.count("\n") == 1
        assert_plain(said)


def assert_plain(said: Said) -> None:
    """No traceback, and nothing that only a terminal understands."""
    assert "Traceback" not in said.err
    assert not re.search(r"[\x1b\r\b]", said.out + said.err)


def test_the_version_is_told(shell: Shell) -> None:
    said = shell.byok("--version")
    assert (said.code, said.out, said.err) == (0, f"byok {version('byok-workers')}\n", "")


def test_the_reference_is_the_one_that_is_generated() -> None:
    wrong = "run `python -m workers.cli.reference`"
    assert reference.FILE.read_text() == reference.schemas_text(), wrong
    assert reference.PAGE.read_text() == reference.page(), wrong
