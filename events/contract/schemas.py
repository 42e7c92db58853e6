"""JSON Schemas (2020-12) of every event and of what travels sealed, from the models."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from events.analyses import MailInput, ThreadInput
from events.envelope import Envelope, EventData
from events.registry import INCOMING, OUTGOING

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SEALED_INPUTS: Mapping[str, type[BaseModel]] = {
    "sealed.mail": MailInput,
    "sealed.thread": ThreadInput,
}
"""What is sealed as the input of an analysis, by the name of its schema."""

Mode = Literal["validation", "serialization"]

_ATTRIBUTES = {
    "specversion": "The version of CloudEvents.",
    "id": "Given by the source. The same event published again has the same id.",
    "source": "Who sends: for incoming events a name of BYOK_PUBLISHERS.",
    "type": "The type and its version.",
    "time": "When the event was made and signed, with its time zone.",
    "subject": "The account that the event is about.",
    "datacontenttype": "What `data` is.",
    "replyto": "Where the publisher waits to hear that the event was claimed.",
    "signature": "`ed25519.<base64url>` over the canonical bytes; demanded outside of the embedded "
    "mode.",
}
_OF_PUBLISHERS = ("replyto", "signature")


class _Generator(GenerateJsonSchema):
    """Without a title for each field, and with the form of an amount in dollars."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 -- none is
        return False

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        digits, places = schema.get("max_digits"), schema.get("decimal_places")
        if self.mode == "serialization" or not digits or not places or schema.get("ge") != 0:
            return super().decimal_schema(schema)
        whole = digits - places
        return {
            "description": f"At most {places} decimal places; better a string than a number.",
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": rf"^[0-9]{{1,{whole}}}(\.[0-9]{{1,{places}}})?$"},
            ],
        }


def event_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each event, envelope and data, and of each sealed input; each stands alone."""
    made = {}
    for types, mode in _SIDES:
        for kind, model in types.items():
            data = model.model_json_schema(schema_generator=_Generator, mode=mode)
            parts = _opened(data.pop("$defs", {}) | {model.__name__: data}, mode)
            made[kind] = {
                **_head(kind),
                **_envelope(kind, model, mode, f"#/$defs/{model.__name__}"),
                "$defs": dict(sorted(parts.items())),
            }
    for name, sealed in SEALED_INPUTS.items():
        schema = sealed.model_json_schema(schema_generator=_Generator)
        made[name] = {**_head(name), **schema, "title": name}
    return made


def components(at: str) -> dict[str, dict[str, Any]]:
    """The same schemas as parts of one document that holds them under `at`."""
    template = at + "{model}"
    made: dict[str, dict[str, Any]] = {}
    for types, mode in _SIDES:
        _, parts = models_json_schema(
            [(model, mode) for model in types.values()],
            schema_generator=_Generator,
            ref_template=template,
        )
        made |= _opened(parts.get("$defs", {}), mode)
        for kind, model in types.items():
            made[kind] = _envelope(kind, model, mode, f"{at}{model.__name__}")
    for name, sealed in SEALED_INPUTS.items():
        schema = sealed.model_json_schema(schema_generator=_Generator, ref_template=template)
        made |= schema.pop("$defs", {})
        made[name] = {**schema, "title": name}
    return dict(sorted(made.items()))


_SIDES: tuple[tuple[Mapping[str, type[EventData]], Mode], ...] = (
    (INCOMING, "validation"),
    (OUTGOING, "serialization"),
)


def _opened(parts: dict[str, dict[str, Any]], mode: Mode) -> dict[str, dict[str, Any]]:
    """Out-events with room for fields that come later, which a reader passes over."""
    if mode == "serialization":
        for part in parts.values():
            part.pop("additionalProperties", None)
    return parts


def _head(name: str) -> dict[str, Any]:
    return {"$schema": DIALECT, "$id": f"{name}.json"}


def _envelope(kind: str, model: type[EventData], mode: Mode, data_at: str) -> dict[str, Any]:
    schema = Envelope.model_json_schema(schema_generator=_Generator, mode="validation")
    attributes = {
        name: {**schema["properties"][name], "description": told}
        for name, told in _ATTRIBUTES.items()
        if mode == "validation" or name not in _OF_PUBLISHERS
    }
    attributes["type"]["const"] = kind
    # Readers refuse an event without `specversion`, so it has no default here.
    attributes["specversion"].pop("default", None)
    return {
        "title": kind,
        "description": model.__doc__,
        "type": "object",
        "properties": {**attributes, "data": {"$ref": data_at}},
        "required": ["specversion", *schema["required"]],
        "additionalProperties": True,
    }
