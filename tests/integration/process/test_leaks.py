"""No key that was used, and no word of a mail, is found in anything that the system leaves."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import insert

from store.schema import cooldowns
from tests.integration.process.canaries import Canary, Driven, drive, places
from tests.integration.process.running import Done, Up
from tests.leaks import Secret, search, told
from tests.unit.test_leak_search import ENCODINGS

KINDS = (
    *("byok.sqlite3", "byok.sqlite3-wal", ".aof", "up.stderr", "up.stdout", "metrics"),
    *("byok:events", "command 0"),
)
"""How the names of the places end in which something must be found to be looked at."""


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that sets a trap in the worker."""
    return tmp_path_factory.mktemp("traps") / "trap"


@pytest.fixture(scope="module")
def up_environment(trap: Path) -> dict[str, str]:
    """Everything says all it can, and crashes can be brought about."""
    return {
        "BYOK_LOG_LEVEL": "debug",
        "OPENAI_LOG": "debug",
        "ANTHROPIC_LOG": "debug",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": os.fspath(Path(__file__).parent / "dying"),
        "TRAP": os.fspath(trap),
    }


@pytest.fixture(scope="module")
def driven(up: Up, trap: Path, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    return drive(up, tmp_path_factory.mktemp("canaries"), trap)


@pytest.fixture(scope="module")
def everywhere(up: Up, driven: Driven) -> dict[str, bytes]:
    """Everything that was left when all had been driven through."""
    return places(up)


def test_what_was_driven_through_the_system_is_found_nowhere(
    everywhere: dict[str, bytes],
    driven: Driven,
    record_property: Callable[[str, object], None],
) -> None:
    for kind in KINDS:
        assert any(place.endswith(kind) for place in everywhere), kind
    assert len([place for place in everywhere if place.startswith("process")]) >= 7
    looked_for = [one.secret for one in driven.sealed]
    hits = search(everywhere, looked_for)
    record_property("canaries", told(everywhere, looked_for, hits))
    assert not hits, hits
    assert len(looked_for) >= 100


def test_what_came_in_the_clear_stays_on_the_queue_it_was_put_on(
    everywhere: dict[str, bytes], driven: Driven
) -> None:
    # The queue's own file has what others wrote to the queue; nothing carries it any further.
    beyond = {place: content for place, content in everywhere.items() if "valkey/" not in place}
    hits = search(beyond, [one.secret for one in driven.in_the_clear])
    assert not hits, hits


def test_everything_had_to_be_handled_that_was_sent(up: Up, driven: Driven) -> None:
    assert driven.sealed
    assert up.metric("byok_analyses_total", outcome="completed") >= 1
    assert up.metric("byok_analyses_total", outcome="skipped") >= 1
    assert up.metric("byok_analyses_total", outcome="failed") >= 20
    assert up.metric("byok_key_validations_total") >= 40
    assert up.metric("byok_set_aside_total") >= 10
    assert up.logged('"level": "debug"') > 0
    assert up.logged("Traceback") == 0


@pytest.fixture(scope="module")
def planted(up: Up, everywhere: dict[str, bytes]) -> Iterator[dict[str, Secret]]:
    """A secret for each encoding, put into each kind of place in that encoding on purpose."""
    kept = {name: Canary.of(f"planted, {name}", "").secret for name in ENCODINGS}
    # Half a UTF-16 text ends an argument: NUL is no part of one.
    readable = {name: secret for name, secret in kept.items() if name != "utf-16"}
    text = " ".join(ENCODINGS[name](secret.private) for name, secret in readable.items())
    with up.app.database.write() as connection:
        for name, secret in readable.items():
            row = {"scope": name, "until_at": 2**53, "reason": ENCODINGS[name](secret.private)}
            connection.execute(insert(cooldowns).values(row))
    up.queue.set("planted-string", text)
    up.queue.rpush("planted-list", text)
    up.queue.sadd("planted-set", text)
    up.queue.zadd("planted-zset", {text: 1})
    up.queue.hset("planted-hash", "field", text)
    up.app.stream.xadd("byok:events", {"event": text})
    for file in (up.stderr, up.stdout):
        with file.open("ab") as log:
            log.write(f"{text}\n".encode())
            log.write(ENCODINGS["utf-16"](kept["utf-16"].private).encode("latin-1"))
    up.said.append(Done(0, text, ""))
    planting = (
        "import sys; from pathlib import Path; from metrics.instruments import open_instruments;"
        "from prometheus_client import CollectorRegistry, Counter;"
        "open_instruments(Path(sys.argv[1]));"
        "Counter('planted', '', ['as'], registry=CollectorRegistry()).labels(sys.argv[2]).inc();"
        "print('planted', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", planting, str(up.state_dir / "metrics"), text],
        env=up.environment | {"PLANTED": text},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"planted\n"
            yield kept
        finally:
            process.kill()


PLANTED_IN = (
    *("sqlite3-wal", ".aof", "up.stderr", "up.stdout", "metrics", "byok:events"),
    *("planted-string", "planted-list", "planted-set", "planted-zset", "planted-hash"),
)


def test_a_secret_that_was_planted_is_found_in_each_place_and_each_encoding(
    up: Up, planted: dict[str, Secret]
) -> None:
    now = places(up)
    found = {(hit.secret, hit.place) for hit in search(now, planted.values())}
    for name, secret in planted.items():
        where = [place for hit, place in found if hit == secret.name]
        for kind in ("up.stderr", "up.stdout") if name == "utf-16" else PLANTED_IN:
            assert any(place.endswith(kind) for place in where), (name, kind)
        if name != "utf-16":
            assert f"command {len(up.said) - 1}" in where
            (process,) = (place for place in where if place.startswith("process"))
            argv = "\0".join(psutil.Process(int(process.split()[1])).cmdline()).encode()
            assert search({process: argv}, [secret])
