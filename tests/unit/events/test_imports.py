"""A publisher needs this package and little else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `statement`."""
    script = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.fixture(scope="module")
def by_events() -> set[str]:
    """What `import events` loads."""
    return loaded_by("import events")


@pytest.mark.parametrize(
    "package", ["sqlalchemy", "alembic", "openai", "anthropic", "aiohttp", "psycopg", "typer"]
)
def test_importing_events_loads_no_package_of_the_workers(
    by_events: set[str], package: str
) -> None:
    assert "events" in by_events
    assert package not in by_events


@pytest.mark.parametrize("package", ["store", "metrics", "workers", "deploy"])
def test_events_stands_on_nothing_else_of_ours(by_events: set[str], package: str) -> None:
    assert package not in by_events
