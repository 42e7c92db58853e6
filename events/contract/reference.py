"""`docs/event-reference.md`: every event with its fields, made from the models.

`python -m events.contract.reference` writes it; a test compares it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from events.contract.schemas import SEALED_INPUTS, event_schemas
from events.registry import INCOMING, OUTGOING
from events.usage import USAGE_QUEUE

PATH = Path(__file__).parents[2] / "docs" / "event-reference.md"

_HEAD = """# Event reference

Made by `python -m events.contract.reference`; do not edit. How events are sealed, signed and
queued is in [Events](events.md) and in `deploy/contracts/asyncapi.json`.

Every event is a CloudEvent 1.0: `id`, `source`, `type`, `time`, `subject` (the account), `data`.
What follows are the fields of `data`.
"""

Schema = dict[str, Any]


def document() -> str:
    """The page."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    schemas = event_schemas()
    yield _HEAD
    yield "## What you publish\n"
    for kind, model in INCOMING.items():
        if model.queue != USAGE_QUEUE:
            yield from _event(kind, schemas[kind], f"On the queue `{model.queue}`.")
    yield "## What you read from the stream\n"
    for kind in OUTGOING:
        yield from _event(kind, schemas[kind], "")
    yield "## What is sealed\n"
    for name in SEALED_INPUTS:
        yield f"### {name}\n"
        yield from _object(schemas[name], schemas[name])
    yield "## Parts\n"
    yield from _parts(schemas)


def _event(kind: str, schema: Schema, where: str) -> Iterator[str]:
    data = _resolved(schema["properties"]["data"], schema)
    yield f"### {kind}\n"
    yield f"{_text(data)} {where}".strip() + "\n"
    yield from _fields(data)


def _object(part: Schema, root: Schema) -> Iterator[str]:
    yield f"{_text(part)}\n"
    yield from _fields(_resolved(part, root))


def _fields(schema: Schema) -> Iterator[str]:
    fields = schema.get("properties", {})
    if not fields:
        yield "No fields.\n"
        return
    yield "| field | type | | what |\n|---|---|---|---|"
    required = schema.get("required", ())
    for name, field in fields.items():
        needed = "required" if name in required else _default(field)
        what = field.get("description", "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{name}` | {_type(field)} | {needed} | {what} |"
    yield ""


def _default(field: Schema) -> str:
    if "default" not in field:
        return "optional"
    default = field["default"]
    return "optional" if default in (None, "", [], {}) else f"default `{json.dumps(default)}`"


def _type(field: Schema) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(option) for option in field["anyOf"]))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}{_limits(field)}"
    return f"{field.get('format') or field.get('type', 'any')}{_limits(field)}"


def _limits(field: Schema) -> str:
    told = []
    for word, low, high in (
        ("", "minimum", "maximum"),
        (" characters", "minLength", "maxLength"),
        (" items", "minItems", "maxItems"),
    ):
        if high in field:
            told.append(f"{field.get(low, 0):,} to {field[high]:,}{word}")
        elif field.get(low):
            told.append(f"from {field[low]:,}{word}")
    return f" ({', '.join(told)})" if told else ""


def _parts(schemas: dict[str, Schema]) -> Iterator[str]:
    events = {f"#/$defs/{model.__name__}" for model in (*INCOMING.values(), *OUTGOING.values())}
    parts: dict[str, Schema] = {}
    for kind, schema in schemas.items():
        if kind not in INCOMING or INCOMING[kind].queue != USAGE_QUEUE:
            parts |= schema.get("$defs", {})
    for name, part in sorted(parts.items()):
        if f"#/$defs/{name}" in events:
            continue
        yield f"### {name}\n"
        if "enum" in part:
            yield f"{_text(part)} One of {_type(part)}.\n"
        else:
            yield from _object(part, part)


def _text(schema: Schema) -> str:
    return str(schema.get("description", "")).replace("\n", " ")


def _resolved(schema: Schema, root: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    found: Schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return found


if __name__ == "__main__":
    PATH.write_text(document())
