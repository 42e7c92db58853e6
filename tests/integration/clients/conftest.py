"""The TypeScript client, built where Node and npm are there."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import deploy

SOURCE = Path(deploy.__path__[0]) / "clients" / "typescript"
OLDEST_NODE = 20
SECONDS = 240

_NO_REGISTRY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ECONNRESET", "ENETUNREACH")


@dataclass(frozen=True)
class Client:
    """The client as it was built, and the Node that runs it."""

    node: str

    def run(
        self,
        script: str,
        *arguments: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of its scripts, with nothing but `environment` set."""
        return subprocess.run(
            [self.node, *options, str(SOURCE / "dist" / script), *arguments],
            env={"PATH": os.environ.get("PATH", ""), **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture(scope="session")
def client() -> Client:
    """The client, built from what is committed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is not found: the TypeScript client is not tested here")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version.strip()} is older than {OLDEST_NODE}: the client needs that")
    with (SOURCE / "package-lock.json").open() as lock:
        # One at a time: test processes share the directory.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(npm)
        built = _npm(npm, "run", "--silent", "build")
    assert built.returncode == 0, built.stdout + built.stderr
    return Client(node)


def _install(npm: str) -> None:
    stamp = SOURCE / "node_modules" / ".installed"
    wanted = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    done = _npm(npm, "ci", "--prefer-offline", "--ignore-scripts")
    if any(code in done.stderr for code in _NO_REGISTRY):
        pytest.skip("npm reaches no registry: the TypeScript client is not tested here")
    assert done.returncode == 0, done.stderr
    stamp.write_text(wanted)


def _npm(npm: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [npm, *arguments],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
