"""Commands in this process, as they are run in a shell: arguments in, exit code and texts out."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest

from workers.cli.guard import guard
from workers.cli.main import app
from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Said:
    """What a command ended with and said."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object that it printed."""
        (line,) = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects that it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Shell:
    """Runs commands in an environment of its own."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    environment: dict[str, str]

    def byok(self, *arguments: str, stdin: str = "", **environment: str) -> Said:
        """Run one command."""
        with self._inside({**self.environment, **environment}, stdin):
            self.capsys.readouterr()
            try:
                code = guard(lambda: app.main(list(arguments), prog_name="byok"))
            except SystemExit as ended:
                code = int(ended.code or 0)
            told = self.capsys.readouterr()
        return Said(code, told.out, told.err)

    @contextmanager
    def _inside(self, environment: dict[str, str], stdin: str) -> Iterator[None]:
        with self.monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin.encode())))
            yield


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that say what `settings` says."""
    told: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if name in settings.model_fields_set and value is not None:
            secret = getattr(value, "get_secret_value", None)
            told[str(field.validation_alias or f"BYOK_{name.upper()}")] = str(
                secret() if secret else value
            )
    return told
