"""The README tells of every command, and of no command or setting that there is not."""

import re
from pathlib import Path

from workers.cli.main import app
from workers.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def variables() -> set[str]:
    """The environment variables of the settings."""
    return {
        str(field.validation_alias or f"BYOK_{name.upper()}")
        for name, field in Settings.model_fields.items()
    }


def test_the_readme_names_no_setting_that_there_is_not() -> None:
    told = set(re.findall(r"`((?:BYOK|OPENAI|ANTHROPIC)_[A-Z_]+)`", README))
    assert len(told) > 10
    assert told <= variables(), "docs/configuration.md has them all"


def test_every_command_is_in_the_readme() -> None:
    names = set(app.commands)
    told = set(re.findall(r"`byok ([a-z]+)", README)) | {"scheduler", "exporter", "resume"}
    assert names == told


def test_the_readme_can_be_read_in_five_minutes() -> None:
    # At 240 words a minute.
    assert len(README.split()) <= 1_200
