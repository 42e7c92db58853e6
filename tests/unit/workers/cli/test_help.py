"""Every command says what it does, with an example, and what shows something speaks JSON too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.cli.main import app
from workers.cli.output import OUTPUTS, schemas

FILE = Path(__file__).parents[4] / "docs" / "commands.json"
WITHOUT = ("demo", "up", "worker", "scheduler", "exporter")
"""These run; they show nothing."""


def commands(group: Any = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


ALL = dict(commands())


@pytest.mark.parametrize("name", ALL)
def test_a_commands_help_has_an_example_of_it(name: str) -> None:
    help_text = " ".join((ALL[name].help or "").split())
    shown = name.removesuffix(" card")
    assert f"Example: `byok {shown}" in help_text


@pytest.mark.parametrize("name", [name for name in ALL if name not in WITHOUT])
def test_a_command_that_shows_something_takes_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[name].params)


def test_the_documented_outputs_are_those_that_there_are() -> None:
    known = {name.removesuffix("[]") for name in OUTPUTS}
    assert known <= set(ALL)
    assert json.loads(FILE.read_text()) == schemas(), "run `python -m workers.cli.output`"
