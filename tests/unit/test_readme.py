"""The README tells of every setting and every command, and of none that there is not."""

import re
from pathlib import Path

from workers.cli.main import app
from workers.settings import SECRETS, Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def variables() -> set[str]:
    """The environment variables of the settings."""
    return {
        str(field.validation_alias or f"BYOK_{name.upper()}")
        for name, field in Settings.model_fields.items()
    }


def test_every_setting_is_in_the_readme() -> None:
    told = set(re.findall(r"`((?:BYOK|OPENAI|ANTHROPIC)_[A-Z_]+)`", README))
    assert variables() == told


def test_the_readme_says_which_settings_may_lie_in_a_file() -> None:
    told = re.findall(r"^\| `BYOK_([A-Z_]+)`, `…_FILE`", README, re.MULTILINE)
    assert sorted(name.lower() for name in told) == sorted(SECRETS)


def test_every_command_is_in_the_readme() -> None:
    names = set(app.commands)
    told = set(re.findall(r"`byok ([a-z]+)", README)) | {"scheduler", "exporter", "resume"}
    assert names == told
