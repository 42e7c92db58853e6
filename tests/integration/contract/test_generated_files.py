"""The generated files are what the models say, and complete."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events import INCOMING, OUTGOING
from events.broker import actor_of
from events.contract import REFUSALS, drift, event_schemas, explanation, render, write
from events.contract.keeping import Changed
from events.contract.schemas import SEALED_INPUTS


def test_the_committed_files_are_what_is_generated_now(files: Path) -> None:
    assert drift(files) == [], "run `byok contract write` and look at what changed"


def test_there_is_a_schema_of_every_event_and_of_what_travels_sealed(files: Path) -> None:
    named = {file.stem for file in (files / "schemas").glob("*.json")}
    assert named == {*INCOMING, *OUTGOING, *SEALED_INPUTS}


def test_writing_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    assert write(tmp_path) == sorted(render(tmp_path))
    assert write(tmp_path) == []


def test_writing_anew_keeps_what_was_sealed_once(tmp_path: Path) -> None:
    write(tmp_path)
    before = (tmp_path / "vectors.json").read_text()
    write(tmp_path)
    assert (tmp_path / "vectors.json").read_text() == before


def test_a_file_that_was_altered_is_named_and_mended(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "asyncapi.json").write_text("{}")
    (tmp_path / "schemas" / "byok.key.tested.v1.json").unlink()
    (tmp_path / "schemas" / "byok.key.borrowed.v1.json").write_text("{}")
    changed = [
        "asyncapi.json",
        "schemas/byok.key.borrowed.v1.json",
        "schemas/byok.key.tested.v1.json",
    ]
    assert drift(tmp_path) == changed
    assert write(tmp_path) == changed
    assert drift(tmp_path) == []


def test_a_released_vector_is_not_written_over(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "vectors.json"
    held = json.loads(path.read_text())
    held["events"][0]["event"]["data"]["revision"] += 1
    path.write_text(json.dumps(held))
    with pytest.raises(Changed) as caught:
        write(tmp_path)
    assert caught.value.name == held["events"][0]["name"]
    assert json.loads(path.read_text()) == held


def test_a_vector_that_no_sample_makes_any_more_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "vectors.json"
    held = json.loads(path.read_text())
    held["events"].insert(0, {**held["events"][0], "name": "of-an-older-release"})
    path.write_text(json.dumps(held))
    write(tmp_path)
    assert json.loads(path.read_text())["events"] == held["events"]


@pytest.fixture
def asyncapi(files: Path) -> Any:
    return json.loads((files / "asyncapi.json").read_text())


def test_every_reference_in_the_asyncapi_document_leads_somewhere(asyncapi: Any) -> None:
    refs = list(_refs(asyncapi))
    assert refs
    for ref in refs:
        found = asyncapi
        for part in ref.removeprefix("#/").split("/"):
            found = found[part]


def test_every_event_of_publishers_is_on_the_channel_of_its_queue(asyncapi: Any) -> None:
    for kind, model in INCOMING.items():
        if model.queue != "usage":
            assert kind in asyncapi["channels"][model.queue]["messages"]
    assert "usage" not in asyncapi["channels"]
    assert set(asyncapi["channels"]["events"]["messages"]) == set(OUTGOING)


def test_each_message_of_publishers_has_an_example(asyncapi: Any) -> None:
    for queue in explanation.PUBLIC_QUEUES:
        for kind in asyncapi["channels"][queue]["messages"]:
            examples = asyncapi["components"]["messages"][kind]["examples"]
            assert all(example["payload"]["type"] == kind for example in examples)
            assert all("signature" in example["payload"] for example in examples)


def test_the_schemas_in_the_document_are_those_of_the_files(asyncapi: Any) -> None:
    parts = asyncapi["components"]["schemas"]
    for name, schema in event_schemas().items():
        alone = {key: value for key, value in schema.items() if key not in ("$schema", "$id")}
        for part, content in alone.pop("$defs", {}).items():
            assert _without_places(parts[part]) == _without_places(content), part
        assert _without_places(parts[name]) == _without_places(alone), name


def test_the_explanation_names_what_a_publisher_needs(asyncapi: Any) -> None:
    told = asyncapi["info"]["description"]
    for queue in explanation.PUBLIC_QUEUES:
        assert f"| `{queue}` | `{actor_of(queue)}` |" in told
    for refusal in REFUSALS:
        if refusal.by in ("worker", "both"):
            assert f"| `{refusal.reason}` |" in told
    assert "$" not in told.replace("`$` in place of", ""), "a placeholder was left"
    for heading in ("Sealing", "Signing", "Reading the stream", "Versions"):
        assert len(explanation.section(heading)) > 100


def test_importing_events_for_publishing_does_not_load_the_contract_package() -> None:
    code = "import events, sys; sys.exit('events.contract' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item
            else:
                yield from _refs(item)
    elif isinstance(value, list):
        for item in value:
            yield from _refs(item)


def _without_places(value: Any) -> Any:
    """The same with references named by what they lead to, wherever that lies."""
    if isinstance(value, dict):
        return {
            name: item.rpartition("/")[2] if name == "$ref" else _without_places(item)
            for name, item in value.items()
        }
    return [_without_places(item) for item in value] if isinstance(value, list) else value
