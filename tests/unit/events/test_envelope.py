"""Reading an event: what is taken, and what is refused with which reason."""

import json
from typing import Any

import pytest

from events import INCOMING, EventRefused, read_event
from events.envelope import MAX_EVENT_BYTES, refuse_oversize
from tests.unit.events.samples import event, event_with

REMOVED = "byok.key.removed.v1"


def refusal(raw: str | bytes) -> EventRefused:
    """How `raw` is refused."""
    with pytest.raises(EventRefused) as caught:
        read_event(raw)
    return caught.value


def refusal_of(fields: Any) -> EventRefused:
    """How the JSON of `fields` is refused."""
    return refusal(json.dumps(fields))


@pytest.mark.parametrize("kind", sorted(INCOMING))
def test_an_event_of_each_type_is_read(kind: str) -> None:
    read = read_event(json.dumps(event(kind)))
    assert type(read.data) is INCOMING[kind]
    assert (read.id, read.subject, read.source) == ("evt-1", "acme", "upstream/tests")


@pytest.mark.parametrize("kind", sorted(INCOMING))
def test_what_was_read_is_written_so_that_it_is_read_the_same(kind: str) -> None:
    read = read_event(json.dumps(event(kind)))
    assert read_event(read.to_json()).model_dump() == read.model_dump()


def test_bytes_are_read_like_text() -> None:
    raw = json.dumps(event(REMOVED))
    assert read_event(raw.encode()) == read_event(raw)


def test_json_in_another_encoding_than_utf8_is_refused() -> None:
    raw = json.dumps(event(REMOVED, source="d\u00e9p\u00f4t"), ensure_ascii=False)
    assert read_event(raw.encode()).source == "d\u00e9p\u00f4t"
    for encoding in ("utf-16", "utf-32", "latin-1"):
        assert refusal(raw.encode(encoding)).reason == "not_json"


def test_extension_attributes_are_left_alone() -> None:
    read = read_event(json.dumps(event(REMOVED, traceparent="00-abc", comment={"a": [1]})))
    assert read.id == "evt-1"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "hello",
        "{",
        '{"specversion": "1.0",}',
        b"\xff\xfe\x00",
        b"\x80",
        "[" * 50_000,
        '{"specversion": "1.0", "n": ' + "9" * 5_000 + "}",
    ],
    ids=["empty", "words", "cut", "comma", "utf16", "no-utf8", "nested-deep", "digits"],
)
def test_what_is_not_json_is_refused(raw: str | bytes) -> None:
    assert refusal(raw).reason == "not_json"


@pytest.mark.parametrize(
    "fields",
    [None, 1, "text", [], [event(REMOVED)], {}, event(REMOVED, specversion="0.3")],
    ids=["null", "number", "string", "list", "batch", "empty", "version"],
)
def test_json_that_is_no_cloudevent_is_refused(fields: object) -> None:
    assert refusal_of(fields).reason == "not_cloudevent"


@pytest.mark.parametrize("kind", [None, 3, {}, ["byok.key.removed.v1"]])
def test_a_type_that_is_no_text_is_unknown(kind: object) -> None:
    assert refusal_of(event(REMOVED, type=kind)).reason == "unknown_type"


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "byok.key.stolen.v1",
        "byok.key.removed",
        "byok.key.removed.v",
        "byok.key.removed.vx",
        "byok.key.removed.v-1",
        "BYOK.KEY.REMOVED.V1",
        " byok.key.removed.v1",
        "byok.key.removed.v\u00b2",
        "byok.key.removed.v\u2460",
        "byok.key.removed.v1.v1",
        # Out-events are not for the workers to read.
        "byok.key.status_changed.v1",
    ],
)
def test_a_type_that_is_not_read_here_is_unknown(kind: str) -> None:
    assert refusal_of(event(REMOVED, type=kind)).reason == "unknown_type"


def test_another_version_of_a_known_type_is_told_as_such() -> None:
    refused = refusal_of(event(REMOVED, type="byok.key.removed.v2"))
    assert refused.reason == "unknown_version"
    assert "version 2 of byok.key.removed" in refused.sentence
    assert REMOVED in refused.sentence


def test_a_version_of_thousands_of_digits_is_told_shortly() -> None:
    refused = refusal_of(event(REMOVED, type="byok.key.removed.v" + "7" * 9_000))
    assert refused.reason == "unknown_version"
    assert len(refused.sentence) < 300


@pytest.mark.parametrize("name", ["id", "source", "time", "subject", "data"])
def test_an_event_without_a_required_attribute_is_invalid(name: str) -> None:
    fields = event(REMOVED)
    del fields[name]
    assert refusal_of(fields).reason == "invalid_event"


@pytest.mark.parametrize("kind", sorted(set(INCOMING)))
@pytest.mark.parametrize("data", [[], "text", 1, None], ids=["list", "text", "number", "null"])
def test_data_that_is_no_object_is_invalid(kind: str, data: object) -> None:
    assert refusal_of(event(kind) | {"data": data}).reason == "invalid_event"


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        " acme",
        "ac me",
        "acme\n",
        "-acme",
        ".acme",
        "a\u00e9",
        "a" * 129,
        "*",
        7,
        None,
    ],
)
@pytest.mark.parametrize("name", ["id", "subject"])
def test_an_identifier_is_letters_digits_and_few_signs(name: str, identifier: object) -> None:
    assert refusal_of(event(REMOVED, **{name: identifier})).reason == "invalid_event"


@pytest.mark.parametrize("identifier", ["a", "A" * 128, "9", "a._:@+-Z", "user@example.org"])
def test_a_good_identifier_is_taken(identifier: str) -> None:
    assert read_event(json.dumps(event(REMOVED, subject=identifier))).subject == identifier


@pytest.mark.parametrize("time", ["2026-01-01T12:00:00", "yesterday", "", None])
def test_a_time_without_a_zone_is_invalid(time: str | None) -> None:
    assert refusal_of(event(REMOVED, time=time)).reason == "invalid_event"


@pytest.mark.parametrize("kind", ["text/plain", "application/xml"])
def test_data_of_another_content_type_is_invalid(kind: str) -> None:
    assert refusal_of(event(REMOVED, datacontenttype=kind)).reason == "invalid_event"


def test_a_field_that_is_not_in_the_contract_is_refused_and_its_name_is_not_repeated() -> None:
    refused = refusal_of(event_with(REMOVED, hunter2_field=1))
    assert refused.reason == "invalid_event"
    assert "hunter2" not in refused.sentence
    assert "not in the contract" in refused.sentence


def test_the_fields_that_are_wrong_are_named_three_at_most() -> None:
    refused = refusal_of(
        event_with("byok.analysis.requested.v1", request_id="", operation="", provider="", model="")
    )
    assert "request_id" in refused.sentence
    assert "(and 1 more)" in refused.sentence


def test_a_wrong_field_inside_a_list_is_named_by_its_place() -> None:
    refused = refusal_of(
        event_with("byok.account.updated.v1", custom_categories=[{"type": "category"}])
    )
    assert "custom_categories.0.key" in refused.sentence


def sized(size: int) -> bytes:
    """A valid event of exactly `size` bytes."""
    raw = json.dumps(event(REMOVED, padding=""))
    return json.dumps(event(REMOVED, padding="x" * (size - len(raw)))).encode()


def test_an_event_at_the_limit_is_read_and_one_byte_more_is_not() -> None:
    assert MAX_EVENT_BYTES == 262_144
    assert read_event(sized(MAX_EVENT_BYTES)).id == "evt-1"
    refused = refusal(sized(MAX_EVENT_BYTES + 1))
    assert refused.reason == "too_large"
    assert "262,145" in refused.sentence


def test_the_size_of_an_event_is_counted_in_bytes() -> None:
    assert refusal("\u00e9" * (MAX_EVENT_BYTES // 2 + 1)).reason == "too_large"
    refuse_oversize("\u00e9" * (MAX_EVENT_BYTES // 2))


def test_half_a_surrogate_pair_is_refused_like_any_other_nonsense() -> None:
    # Message brokers hand over what JSON escapes allow, and JSON allows this.
    assert refusal("\ud800").reason == "not_json"
    assert refusal('{"specversion": "1.0", "type": "\ud800"}').reason == "unknown_type"
    for name in ("id", "source", "subject"):
        escaped = json.dumps(event(REMOVED, **{name: "acme\ud800"}))
        assert refusal(escaped).reason == "invalid_event"
        assert refusal(escaped.replace("\\ud800", "\ud800")).reason == "invalid_event"
