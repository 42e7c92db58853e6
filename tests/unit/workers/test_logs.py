"""Logs hold no provider key, whoever writes them and wherever it stands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
KEY = "sk-proj-fake-hunter2-not-a-real-key-0123456789"
BEGIN = """
import logging, sys
import structlog
from workers import logs
KEY, LEVEL = sys.argv[1:]
logs.set_up(LEVEL)
log = structlog.get_logger("tests")
def end():
    sys.stderr.write("\\n--\\n")
    structlog.contextvars.clear_contextvars()
"""
CASES = [
    "log.info('x', key=KEY)",
    "log.info(KEY)",
    "log.info(f'before {KEY} after')",
    "log.info('x', nested={'a': [KEY, {'b': KEY}]})",
    "log.info('x', **{KEY: 1})",
    "log.info('x', keys=(KEY,))",
    "log.info('x', error=ValueError(KEY))",
    "log.info('x', raw=KEY.encode())",
    "log.bind(key=KEY).warning('x')",
    "structlog.contextvars.bind_contextvars(key={'k': KEY}); log.info('x')",
    "logging.getLogger('other').warning('x %s', KEY)",
    "logging.getLogger('other').warning('x %s', {'k': [KEY]})",
    "logging.getLogger('other').error(KEY)",
    "try:\n    raise ValueError(KEY)\nexcept ValueError:\n    log.exception('x')",
    "try:\n    raise ValueError(KEY)\nexcept ValueError:\n    logging.exception('x')",
    "try:\n    1 / 0\nexcept Exception as e:\n    e.add_note(KEY); log.exception('x')",
]


def told(*statements: str, level: str = "info") -> list[str]:
    """What a process that logs writes to stderr for each statement; nothing goes to stdout."""
    script = BEGIN + "".join(f"{statement}\nend()\n" for statement in statements)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, KEY, level],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return [part.strip() for part in done.stderr.split("\n--\n")[: len(statements)]]


def lines(written: str) -> list[dict[str, Any]]:
    """The objects that were written, one a line."""
    return [json.loads(line) for line in written.splitlines()]


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """What each case writes."""
    return dict(zip(CASES, told(*CASES), strict=True))


@pytest.mark.parametrize("statement", CASES)
def test_a_key_is_not_in_the_log(written: dict[str, str], statement: str) -> None:
    assert "sk-[redacted]" in written[statement]
    assert "hunter2" not in written[statement]
    assert lines(written[statement])


def test_a_line_that_cannot_be_written_tells_nothing_of_what_was_being_handled() -> None:
    (text,) = told(
        "import io\n"
        "broken = logging.StreamHandler(io.StringIO())\n"
        "broken.stream.close()\n"
        "logging.getLogger().addHandler(broken)\n"
        "try:\n    raise RuntimeError(f'no way with {KEY}')\n"
        "except RuntimeError:\n    log.info('still written')"
    )
    assert "hunter2" not in text
    assert [line["event"] for line in lines(text)] == ["still written"]


def test_every_line_is_a_json_object_where_nobody_looks() -> None:
    (text,) = told(
        "log.info('first', number=1)\n"
        "logging.getLogger('other').warning('second %d', 2)\n"
        "log.error('third', text='two\\nlines')"
    )
    found = lines(text)
    assert [line["event"] for line in found] == ["first", "second 2", "third"]
    assert [line["level"] for line in found] == ["info", "warning", "error"]
    assert found[0]["number"] == 1
    assert all(line["timestamp"].endswith("Z") for line in found)


def test_what_is_below_the_level_is_not_written() -> None:
    assert told("log.debug('x'); log.info('x'); logging.info('x')", level="warning") == [""]


def test_libraries_that_log_what_they_carry_are_quiet() -> None:
    names = ["openai", "anthropic", "httpx2", "httpcore2", "aiohttp", "dramatiq", "alembic", "pika"]
    statements = [f"logging.getLogger('{name}._client').info('x')" for name in names]
    assert told(*statements, level="debug") == [""] * len(names)


ON_A_TERMINAL = f"""
import io, sys
class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True
sys.stderr = Terminal(sys.stderr.buffer, write_through=True)
{BEGIN}
"""


def shown(statement: str, **environment: str) -> str:
    """What a process writes for a statement where stderr is a terminal."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{ON_A_TERMINAL}\n{statement}", KEY, "info"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def test_on_a_terminal_lines_are_for_people_and_hold_no_key_either() -> None:
    text = shown(f"{CASES[3]}\n{CASES[13]}", NO_COLOR="")
    assert "hunter2" not in text
    assert "sk-[redacted]" in text
    assert "\x1b[" in text
    with pytest.raises(ValueError, match=r"Expecting|Extra"):
        json.loads(text.splitlines()[0])


def test_no_color_is_honoured() -> None:
    assert "\x1b[" not in shown("log.info('x', a=1)", NO_COLOR="1")
