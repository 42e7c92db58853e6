"""The registry names every event there is."""

import json
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest

import events
from events import INCOMING, OUTGOING, QUEUES, EventData, EventRefused, read_event
from tests.unit.events.samples import SAMPLES, event


def all_events(base: type[EventData] = EventData) -> Iterator[type[EventData]]:
    """Every kind of event that any module defines."""
    for module in pkgutil.iter_modules(events.__path__):
        import_module(f"events.{module.name}")
    for model in base.__subclasses__():
        if "event_type" in vars(model) and model.__module__.startswith("events."):
            yield model
        yield from all_events(model)


def test_every_event_that_is_defined_is_registered_once() -> None:
    defined = sorted(model.event_type for model in all_events())
    assert defined == sorted([*INCOMING, *OUTGOING])


def test_a_type_is_read_or_emitted_but_not_both() -> None:
    assert not set(INCOMING) & set(OUTGOING)


def test_types_are_named_by_subject_past_tense_and_version() -> None:
    for kind, model in {**INCOMING, **OUTGOING}.items():
        assert model.event_type == kind
        product, _, name, version = kind.split(".")
        assert product == "byok"
        assert name.replace("_", "").isalpha()
        assert version == "v1"


def test_what_comes_in_has_a_queue_and_what_goes_out_has_none() -> None:
    assert all(model.queue for model in INCOMING.values())
    assert not any(model.queue for model in OUTGOING.values())
    assert set(QUEUES) == {"accounts", "analyses", "keys", "usage"}


@pytest.mark.parametrize("kind", sorted(OUTGOING))
def test_an_out_event_is_not_taken_from_a_queue(kind: str) -> None:
    fields = event("byok.account.deleted.v1", type=kind)
    with pytest.raises(EventRefused) as caught:
        read_event(json.dumps(fields))
    assert caught.value.reason == "unknown_type"


def test_the_samples_of_these_tests_are_of_every_incoming_type() -> None:
    assert set(SAMPLES) == set(INCOMING)


def test_every_event_forbids_what_its_contract_does_not_name() -> None:
    for model in {**INCOMING, **OUTGOING}.values():
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["frozen"]
        assert model.model_config["hide_input_in_errors"]
