"""The README tells of every setting and every command, and of none that there is not."""

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


def test_every_setting_is_in_the_readme() -> None:
    told = set(re.findall(r"`((?:BYOK|OPENAI|ANTHROPIC)_[A-Z_]+)`", README))
    files = {name for name in variables() if name.endswith("_FILE")}
    # A file's variable is told beside the one it stands for, as `…_FILE`.
    assert {name.removesuffix("_FILE") for name in files} <= told
    assert variables() - files == told


def test_every_command_is_in_the_readme() -> None:
    names = set(app.commands)
    told = set(re.findall(r"`byok ([a-z]+)", README)) | {"scheduler", "exporter"}
    assert names == told
