"""A shell in which `byok` runs, on a system that runs in this process."""

import pytest

from tests.commands import Shell, environment_of
from tests.road import Road


@pytest.fixture
def shell(road: Road, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Where an operator types, called Ann."""
    road.until(lambda: all(app.health.ready().ok for app in road.roles))
    environment = {**environment_of(road.settings), "BYOK_OPERATOR": "ann"}
    return Shell(monkeypatch, capsys, environment)
