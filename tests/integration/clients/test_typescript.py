"""The TypeScript client: against the vectors, and against running workers."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from events.contract import event_schemas
from events.stream import EVENT_FIELD, STREAM
from tests.integration.clients.conftest import SOURCE, Client
from tests.integration.contract.json_schema import problems
from tests.road import GOOD_OPENAI, Road, fake_key

KINDS = ["sqlite-valkey", "postgresql-redis", "postgresql-rabbitmq"]


def environment(road: Road) -> dict[str, str]:
    """What a publisher is given."""
    settings = road.settings
    return {
        "BYOK_BROKER_URL": settings.effective_broker_url,
        "BYOK_REDIS_URL": settings.effective_redis_url,
        "BYOK_SOURCE": settings.source,
        "BYOK_SIGNING_KEY": fake_key(3),
        "BYOK_SEALING_PUBLIC_KEY": str(settings.sealing_public),
    }


def test_the_vectors_hold_byte_for_byte(client: Client) -> None:
    done = client.run("test/vectors.test.js", options=["--test"])
    assert done.returncode == 0, done.stdout
    assert _count(done.stdout, "pass") > 45


def test_a_vector_that_does_not_hold_is_found(client: Client, tmp_path: Path) -> None:
    held = json.loads((SOURCE.parents[1] / "contracts" / "vectors.json").read_text())
    held["events"][0]["signature"] = "ed25519.AAAA"
    changed = tmp_path / "vectors.json"
    changed.write_text(json.dumps(held))
    done = client.run(
        "test/vectors.test.js", options=["--test"], environment={"BYOK_VECTORS": str(changed)}
    )
    assert (done.returncode, _count(done.stdout, "fail")) == (1, 1)


@pytest.mark.parametrize("services", KINDS, indirect=True)
def test_a_publisher_connects_a_key_and_gets_an_analysis(client: Client, road: Road) -> None:
    done = client.run(
        "examples/first-analysis.js", "acme", environment=environment(road), stdin=GOOD_OPENAI
    )
    assert (done.returncode, done.stderr) == (0, "The key is valid (ok).\n"), done.stderr
    completed = json.loads(done.stdout)
    assert completed["type"] == "byok.analysis.completed.v1"
    request = road.ended(completed["data"]["request_id"])
    assert (request.state, request.credential) == ("completed", "byok")
    assert request.result == completed["data"]["result"]
    schemas = event_schemas()
    entries: Any = road.app.stream.xrange(STREAM)
    for _, fields in entries:
        told = json.loads(fields[EVENT_FIELD.encode()])
        assert problems(told, schemas[told["type"]]) == []
    live = client.run("test/live.test.js", options=["--test"], environment=environment(road))
    assert live.returncode == 0, live.stdout
    assert _count(live.stdout, "pass") >= 7


@pytest.mark.parametrize("services", KINDS[:1], indirect=True)
def test_a_publisher_that_signs_wrongly_hears_so(client: Client, road: Road) -> None:
    stranger = f"t9:{base64.b64encode(bytes([9]) * 32).decode()}"
    done = client.run(
        "examples/first-analysis.js",
        "acme",
        environment={**environment(road), "BYOK_SIGNING_KEY": stranger},
        stdin=GOOD_OPENAI,
    )
    assert done.returncode == 1
    assert "bad_signature" in done.stderr


def test_the_lock_names_no_registry_and_has_every_digest() -> None:
    lock = json.loads((SOURCE / "package-lock.json").read_text())
    packages = [one for name, one in lock["packages"].items() if name]
    assert packages
    assert all("integrity" in one and "resolved" not in one for one in packages)


def test_the_client_has_the_version_of_the_workers(pytestconfig: pytest.Config) -> None:
    pyproject = (pytestconfig.rootpath / "pyproject.toml").read_text()
    version = json.loads((SOURCE / "package.json").read_text())["version"]
    assert f'\nversion = "{version}"\n' in pyproject


def _count(tap: str, what: str) -> int:
    """How many tests passed or failed, as Node's TAP output ends."""
    (line,) = (line for line in tap.splitlines() if line.startswith(f"# {what} "))
    return int(line.rpartition(" ")[2])
