"""`byok up` for the tests of a module: started once, and ended whatever happens."""

from collections.abc import Iterator

import pytest

from tests.integration.process.running import Up


@pytest.fixture(scope="module")
def up_environment() -> dict[str, str]:
    """What a module wants in the environment of its `byok up` beside the state directory."""
    return {}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, up_environment: dict[str, str]) -> Iterator[Up]:
    """A `byok up` that is ready."""
    running = Up(tmp_path_factory.mktemp("up"), up_environment)
    try:
        running.start()
        yield running
    finally:
        running.close()
