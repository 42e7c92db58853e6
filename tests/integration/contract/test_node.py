"""Another language, from the AsyncAPI document and the vectors alone: Node's standard library."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from events.contract import event_schemas
from events.stream import EVENT_FIELD, STREAM
from tests.integration.contract.json_schema import problems
from tests.road import GOOD_OPENAI, Road, fake_key

SCRIPTS = Path(__file__).parent / "node"
REDIS_KINDS = ["sqlite-valkey", "postgresql-valkey", "postgresql-redis"]


def run(node: str, script: str, *arguments: str, **more: Any) -> "subprocess.CompletedProcess[str]":
    """Run one of the scripts."""
    return subprocess.run(
        [node, str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        **more,
    )


def publish(node: str, road: Road, **changed: str) -> "subprocess.CompletedProcess[str]":
    """Run the publisher against a running system."""
    settings = road.settings
    return run(
        node,
        "publish.mjs",
        "acme",
        input=GOOD_OPENAI,
        env={
            "PATH": os.environ.get("PATH", ""),
            "BYOK_BROKER_URL": settings.effective_broker_url,
            "BYOK_REDIS_URL": settings.effective_redis_url,
            "BYOK_SOURCE": settings.source,
            "BYOK_SIGNING_KEY": fake_key(3),
            "BYOK_SEALING_PUBLIC_KEY": str(settings.sealing_public),
            "TIMEOUT_SECONDS": "60",
            **changed,
        },
    )


def test_the_vectors_hold_in_node_byte_for_byte(node: str, files: Path) -> None:
    done = run(node, "check_vectors.mjs", str(files / "vectors.json"))
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["checked"] > 50


def test_a_vector_that_does_not_hold_is_found_in_node(
    node: str, files: Path, tmp_path: Path
) -> None:
    held = json.loads((files / "vectors.json").read_text())
    held["events"][0]["signature"] = "ed25519.AAAA"
    changed = tmp_path / "vectors.json"
    changed.write_text(json.dumps(held))
    done = run(node, "check_vectors.mjs", str(changed))
    assert done.returncode == 1
    assert "signature" in json.loads(done.stdout)["problems"][0]


@pytest.mark.parametrize("services", REDIS_KINDS, indirect=True)
def test_a_publisher_in_node_connects_a_key_and_gets_an_analysis(node: str, road: Road) -> None:
    done = publish(node, road)
    assert done.stderr == ""
    completed = json.loads(done.stdout)
    assert completed["type"] == "byok.analysis.completed.v1"
    request = road.ended(completed["data"]["request_id"])
    assert (request.state, request.credential) == ("completed", "byok")
    assert request.result == completed["data"]["result"]
    assert road.app.stream.xpending(STREAM, _group(road))["pending"] == 0
    schemas = event_schemas()
    entries: Any = road.app.stream.xrange(STREAM)
    for _, fields in entries:
        told = json.loads(fields[EVENT_FIELD.encode()])
        assert problems(told, schemas[told["type"]]) == []


@pytest.mark.parametrize("services", REDIS_KINDS[:1], indirect=True)
def test_a_publisher_in_node_that_signs_wrongly_hears_so(node: str, road: Road) -> None:
    stranger = f"t9:{base64.b64encode(bytes([9]) * 32).decode()}"
    done = publish(node, road, BYOK_SIGNING_KEY=stranger)
    assert done.returncode == 1
    assert done.stderr == "byok.account.updated.v1: refused bad_signature\n"


def _group(road: Road) -> str:
    (group,) = road.app.stream.xinfo_groups(STREAM)
    found: str = group["name"].decode()
    return found
