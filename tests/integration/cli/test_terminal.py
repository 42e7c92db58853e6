"""Colours on a terminal alone, and none of any command where `NO_COLOR` is set."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Shell
from tests.integration.cli import typed
from tests.integration.process.running import MAILS, ROOT, clean_environment
from tests.road import Road
from workers.cli import reference

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

_SGR = re.compile(r"\x1b\[([0-9;]*)m")
_COLOURS = {*range(30, 39), *range(40, 49), *range(90, 98), *range(100, 108)}
"""ECMA-48, 8.3.117, and the bright ones that terminals have beside them."""

MAIL = str(MAILS / "easy-ham-1-00386.eml")
SHOW = {
    "account delete": ["gone"],
    "account set": ["acme", "--plan", "business", "--consent"],
    "account show": ["acme"],
    "analyze": ["acme", MAIL, "--wait"],
    "contract vectors": ["--check"],
    "contract write": ["--directory", "{directory}"],
    "failed drop": ["--all"],
    "failed retry": ["--all"],
    "failed show": ["nothing"],
    "healthcheck": ["worker"],
    "keygen": ["sealing"],
    # Of an account that is not known, so that none asks for a key.
    "keys add": ["nobody", "openai"],
    "keys replace": ["nobody", "openai"],
    "keys history": ["acme"],
    "keys remove": ["nobody", "openai"],
    "keys show": ["acme"],
    "keys test": ["acme", "openai", "--wait"],
    "pause": ["provider", "openai"],
    "resume": ["provider", "openai"],
    "revalidate": ["--due"],
    "top": ["--once", "--interval", "0.1"],
    "usage card": ["acme"],
}
"""What is given to those that want something."""

RUN_ON = {"demo", "up", "worker", "scheduler", "exporter"}
"""These do not end by themselves, or have a system of their own: of them the help is looked at."""


def on_a_terminal(
    lines: list[list[str]], environment: dict[str, str], **more: str
) -> dict[int, str]:
    """What each of the commands writes to a terminal, by its number."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", typed.__name__, json.dumps(lines)],
        cwd=ROOT,
        env={**environment, "TERM": "xterm-256color", **more},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    read = b""
    try:
        while chunk := os.read(ours, 65536):
            read += chunk
    except OSError:
        pass  # Linux's way to say that nobody writes any more
    os.close(ours)
    assert process.wait(60) == 0
    parts = read.decode().split("\x1e")[1:]
    found = (part.partition("\n") for part in parts)
    return {int(number): said for number, _, said in found}


def is_coloured(said: str) -> bool:
    """Whether a terminal would show a colour."""
    codes = {int(code) for sgr in _SGR.findall(said) for code in sgr.split(";") if code}
    return bool(codes & _COLOURS)


def test_every_command_has_colours_on_a_terminal_alone_and_none_with_no_color(
    road: Road, shell: Shell, tmp_path: Path
) -> None:
    road.account()
    road.give_key()
    road.put_raw("keys", b"no message", {})
    given = {
        name: [*name.split(), *(one.format(directory=tmp_path) for one in SHOW.get(name, ()))]
        for name, _ in reference.commands()
    }
    lines = [words for name, words in given.items() if name not in RUN_ON]
    lines += [[*name.split(), "--help"] for name in given]
    environment = {**clean_environment(tmp_path, {}), **shell.environment}
    plain = on_a_terminal(lines, environment, NO_COLOR="1")
    bright = on_a_terminal(lines, environment)
    assert len(plain) == len(bright) == len(lines)
    for number, words in enumerate(lines):
        assert "Traceback" not in plain[number]
        assert not is_coloured(plain[number]), (words, plain[number])
    coloured = [words for number, words in enumerate(lines) if is_coloured(bright[number])]
    assert ["doctor"] in coloured
    assert len(coloured) > len(given)
    for words in lines[: len(given) - len(RUN_ON)]:
        said = shell.byok(*words)
        assert not re.search(r"[\x1b\r\b]", said.out + said.err), (words, said)
