"""The image as its containers run: as nobody, without rights, on a root that is read-only.

The short test runs this checkout so. The long one (`make image`) builds the Dockerfile by buildah,
on Debian's own Python in the place of the base image, which only a registry has, and runs what was
built.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.deploy.described import FILES, STATE
from tests.integration.process.running import until

ROOT = FILES.parent
USER = "10001"
NOBODY = [
    *("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"),
    *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
]
ENVIRONMENT = {
    "PATH": f"/opt/byok/bin:{os.environ.get('PATH', '')}",
    "PYTHONPATH": "/mnt/code:/mnt/packages",
    "LD_LIBRARY_PATH": "/mnt/python/lib",
    "PYTHONDONTWRITEBYTECODE": "1",
    "BYOK_STATE_DIR": STATE,
}
# As the deployment's files have it: these two can be written to, and nothing else.
CONTAINED = f"""
mount -t tmpfs tmpfs "$1/run"
mkdir "$1{STATE}"
mount -t tmpfs -o uid={USER},gid={USER},mode=0700 tmpfs "$1{STATE}"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
mount -o remount,ro "$1/run"
mount -o remount,bind,ro "$1/"
shift
cd /
exec "$@"
"""
# This checkout and its Python where another user finds them: a home may be its owner's alone.
CHECKOUT = f"""
mount -t tmpfs tmpfs /mnt
mkdir /mnt/code /mnt/packages /mnt/python
mount --bind -o ro "{ROOT}" /mnt/code
mount --bind -o ro "{sysconfig.get_path("purelib")}" /mnt/packages
mount --bind -o ro "{sys.base_prefix}" /mnt/python
mount -o remount,ro /mnt
"""
HELD = f"! touch /held /run/held /usr/held 2>/dev/null && touch {STATE}/mine /tmp/mine"


@contextmanager
def started(log: Path, script: str, root: str, *byok: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`byok up`, everything embedded, contained under a root; it has said that it is ready."""
    namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*namespace, root, *byok, "up"],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        return "ready\n" in log.read_text()

    try:
        until(ready, "it is ready", 90)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def works(process: "subprocess.Popen[bytes]", nobody: list[str], byok: list[str]) -> None:
    """It may do nothing beside, and does the main job."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n" in status
    assert "CapBnd:\t0000000000000000\n" in status
    inside(process, *nobody, "sh", "-c", HELD)
    inside(process, *byok, "doctor")
    inside(process, *byok, "account", "set", "acme", "--plan", "business", "--consent")
    key = "sk-proj-sandbox-not-a-real-key\n"
    inside(process, *byok, "keys", "add", "acme", "openai", "--wait", stdin=key)
    mail = (ROOT / "tests" / "data" / "mail" / "easy-ham-1-00386.eml").read_text()
    told = inside(process, *byok, "analyze", "acme", "-", "--wait", "--json", stdin=mail)
    assert json.loads(told)["state"] == "completed"


def inside(process: "subprocess.Popen[bytes]", *command: str, stdin: str = "") -> str:
    """What a command prints in the same namespace; it must succeed."""
    enter = ("nsenter", f"--mount=/proc/{process.pid}/ns/mnt")
    done = subprocess.run(
        [*enter, *command],
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)  # it starts processes one after another
def test_everything_runs_as_nobody_on_a_root_that_is_read_only(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("a process of another user needs Linux, root and the command setpriv")
    probe = (shutil.which("unshare") or "unshare", "--mount", "true")
    unshared = subprocess.run(probe, capture_output=True, check=False)
    if unshared.returncode != 0:
        pytest.skip("this machine lets nobody make mount namespaces")
    python = f"/mnt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    byok = [*NOBODY, python, "-m", "workers.cli.main"]
    with started(tmp_path / "log", CHECKOUT + CONTAINED, "", *byok) as process:
        works(process, NOBODY, byok)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_dockerfile_builds_and_what_it_built_works(tmp_path: Path) -> None:
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not found (Debian's package of that name)")
    store = ["buildah", "--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run")]
    base = tmp_path / "base"
    packages = "python3,python3-venv,python-is-python3,ca-certificates"
    run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(base))
    empty = run(*store, "from", "scratch")
    run(*store, "add", "--quiet", empty, str(base), "/")
    run(*store, "commit", "--quiet", empty, "localhost/python:debian")
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    run(
        *(*store, "bud", "--isolation", "chroot", "--network", "host", "--tag", "byok"),
        *("--build-arg", "PYTHON_IMAGE=localhost/python:debian"),
        # Whom this machine trusts, where something stands between it and the packages.
        *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "--volume", f"{settings}:/etc/pip.conf"),
        *("--file", str(FILES / "docker" / "Dockerfile"), str(ROOT)),
    )
    built = json.loads(run(*store, "inspect", "--type", "image", "byok"))["OCIv1"]["config"]
    assert built["User"] == f"{USER}:{USER}"
    assert (built["Entrypoint"], built["Cmd"]) == (["byok"], ["worker"])
    root = run(*store, "mount", run(*store, "from", "byok"))
    for device in ("null", "urandom"):
        run("cp", "--archive", f"/dev/{device}", f"{root}/dev/{device}")
    nobody = ["chroot", root, *NOBODY]
    byok = [*nobody, "byok"]
    try:
        with started(tmp_path / "log", CONTAINED, root, *byok) as process:
            works(process, nobody, byok)
            inside(process, *nobody, "python", "-c", "import boto3, opentelemetry.sdk")
    finally:
        run(*store, "rm", "--all")


def run(*command: str) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()
