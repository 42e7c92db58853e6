"""The generated files as they are committed, and Node where it is there."""

import shutil
from pathlib import Path

import pytest

import deploy
from events.contract import Vectors, read_vectors

FILES = Path(deploy.__path__[0]) / "contracts"


@pytest.fixture
def files() -> Path:
    """Where the generated files are."""
    return FILES


@pytest.fixture
def vectors() -> Vectors:
    """The committed vectors."""
    return read_vectors(FILES)


@pytest.fixture(scope="session")
def node() -> str:
    """The command that runs a script in Node."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not found: no second language here")
    return found
