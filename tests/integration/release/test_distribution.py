"""What is released: built from what is committed, installed into an empty environment, used there.

Nothing is downloaded: what it depends on is linked from this environment, and only that.
"""

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
import redis
from dramatiq import Message
from packaging.requirements import Requirement

from events.broker import NAMESPACE

ROOT = Path(__file__).parents[3]
NAME = "byok-workers"

PUBLISH = """
from events import KeyTested, publish
print(publish(KeyTested(key_id="key-1"), account="acme").id)
for name in ("sqlalchemy", "openai", "anthropic", "typer"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " can be imported")
"""


def run(*command: str | Path, **more: Any) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source distribution."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", directory, cwd=ROOT)
    return directory


def wheel_in(directory: Path) -> Path:
    (wheel,) = directory.glob("*.whl")
    return wheel


def test_the_wheel_holds_what_runs_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_in(built)) as wheel:
        names = wheel.namelist()
    packages = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"events", "store", "metrics", "workers", "deploy"}
    for needed in (
        "store/grants.sql",
        "workers/pacing/enter.lua",
        "events/contract/explanation.md",
        "deploy/contracts/vectors.json",
    ):
        assert needed in names
    assert any(name.startswith("store/migrations/versions/0001") for name in names)
    for kept_out in ("node_modules", "/dist/", "secrets/", ".keys", "__pycache__"):
        assert not any(kept_out in name for name in names), kept_out


def test_the_source_distribution_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        # Our own, made above; the filter came with Python 3.11.4.
        archive.extractall(tmp_path)  # noqa: S202
    (unpacked,) = tmp_path.iterdir()
    again = tmp_path / "again"
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", again, cwd=unpacked)
    with zipfile.ZipFile(wheel_in(built)) as one, zipfile.ZipFile(wheel_in(again)) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_a_publisher_needs_none_of_the_workers_packages(
    built: Path, tmp_path: Path, valkey: str
) -> None:
    python = environment(tmp_path / "env", built, extra="")
    url = f"{valkey}?db=0"
    with redis.Redis.from_url(url) as queue:
        queue.flushdb()
        published = run(python, "-c", PUBLISH, env={"BYOK_BROKER_URL": url}).strip()
        stored: Any = queue.hvals(f"{NAMESPACE}:keys.msgs")
    (message,) = (Message.decode(raw) for raw in stored)
    assert published in str(message.args[0])
    done = subprocess.run(
        [python.with_name("byok"), "doctor"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "install `byok-workers[workers]`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_workers_run_from_their_wheel(built: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", built, extra="workers")
    byok = python.with_name("byok")
    elsewhere = {"BYOK_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    applied = run(byok, "db", "upgrade", env=elsewhere, cwd=tmp_path)
    assert "0001" in applied
    assert "Nothing to do" in run(byok, "db", "upgrade", env=elsewhere, cwd=tmp_path)
    run(byok, "contract", "vectors", "--check", env=elsewhere, cwd=tmp_path)
    run(python, "-c", "from workers import scheduler, worker", env=elsewhere, cwd=tmp_path)


def environment(directory: Path, built: Path, *, extra: str) -> Path:
    """An empty environment with our wheel and what it depends on; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    python = directory / "bin" / "python"
    place = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    for found in closure(NAME, extra):
        for file in {Path(str(file)).parts[0] for file in found.files or ()}:
            target, link = Path(str(found.locate_file(file))), place / file
            if file not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(target)
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    wheel = wheel_in(built)
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel)
    return python


def closure(name: str, extra: str) -> Iterator[Distribution]:
    """All that a distribution with an extra depends on, as installed here; not itself."""
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra)]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        found = distribution(one[0])
        if one[0] != name:
            yield found
        for text in found.requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": one[1]}):
                waiting += [(requirement.name, part) for part in ("", *requirement.extras)]


def test_the_release_has_one_version_everywhere() -> None:
    version = distribution(NAME).version
    chart = (ROOT / "deploy" / "helm" / "byok" / "Chart.yaml").read_text()
    assert f'appVersion: "{version}"' in chart
    assert f"byok:{version}" in (ROOT / "deploy" / "compose" / "compose.yaml").read_text()
    assert f"byok:{version}" in (ROOT / "deploy" / "compose" / "secrets.sh").read_text()


def test_the_image_has_what_every_setting_asks_for() -> None:
    pinned = re.findall(
        r"^([a-z0-9._-]+)==", (ROOT / "requirements-image.lock").read_text(), re.MULTILINE
    )
    asked = {
        found.metadata["Name"].lower().replace("_", "-")
        for extra in ("workers", "kms", "otel")
        for found in closure(NAME, extra)
    }
    assert {"boto3", "opentelemetry-sdk", "sqlalchemy"} <= asked
    assert asked <= set(pinned)


def test_the_bill_of_materials_has_every_package_with_its_digests(tmp_path: Path) -> None:
    written = tmp_path / "bill.json"
    maker = Path(sys.executable).with_name("cyclonedx-py")
    lock = ROOT / "requirements-image.lock"
    run(maker, "requirements", "--sv", "1.6", "--output-reproducible", "-o", written, lock)
    components = json.loads(written.read_text())["components"]
    pinned = re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
    assert sorted((one["name"], one["version"]) for one in components) == sorted(pinned)
    assert len(pinned) > 30
    for one in components:
        assert any(reference.get("hashes") for reference in one["externalReferences"]), one["name"]
