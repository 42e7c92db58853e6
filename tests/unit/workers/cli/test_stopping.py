"""Ctrl-C ends a command with one line, from its first moment on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

PRESS_CTRL_C = """
import os, signal, sys

class Presses:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["PRESS_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Presses())
"""


@pytest.mark.parametrize("loading", ["workers.cli.main", "typer", "workers.app"])
def test_ctrl_c_while_a_command_is_loaded_says_so_in_one_line(tmp_path: Path, loading: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRESS_CTRL_C)
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "account", "show", "acme"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PRESS_AT": loading},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "byok: Stopped.\n")


def test_naming_the_commands_loads_none_of_their_parts() -> None:
    script = (
        "import sys; from workers.cli.main import app; list(app.commands);"
        "print({'sqlalchemy', 'redis', 'pydantic', 'dramatiq'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
