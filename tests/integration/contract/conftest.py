"""The generated files as they are committed."""

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
