"""Validation by JSON Schema 2020-12, as much of it as our schemas use and not one keyword more."""

import re
from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]

_ABOUT = {"$schema", "$id", "$defs", "title", "description", "default", "format"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def problems(value: Any, schema: Schema, root: Schema | None = None) -> list[str]:
    """What is wrong with `value`; empty where it is valid. Raises for a keyword not known here."""
    return list(_problems(value, schema, schema if root is None else root, ""))


def _problems(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    for keyword, wanted in schema.items():
        if keyword in _CHECKS:
            if not _CHECKS[keyword](value, wanted):
                yield f"{path} breaks {keyword} {wanted}"
        elif keyword not in _ABOUT:
            yield from _PARTS[keyword](value, wanted, schema, root, path)


def _reference(value: Any, wanted: Any, _: Schema, root: Schema, path: str) -> Iterator[str]:
    yield from _problems(value, _resolved(wanted, root), root, path)


def _options(value: Any, wanted: Any, _: Schema, root: Schema, path: str) -> Iterator[str]:
    if all(problems(value, option, root) for option in wanted):
        yield f"{path} is none of the options"


def _items(value: Any, wanted: Any, _: Schema, root: Schema, path: str) -> Iterator[str]:
    for place, item in enumerate(value if isinstance(value, list) else ()):
        yield from _problems(item, wanted, root, f"{path}/{place}")


def _is(value: Any, wanted: str) -> bool:
    if isinstance(value, bool) and wanted != "boolean":
        return False
    return isinstance(value, _TYPES[wanted])


def _properties(value: Any, wanted: Any, _: Schema, root: Schema, path: str) -> Iterator[str]:
    for name in _names_of(value) & wanted.keys():
        yield from _problems(value[name], wanted[name], root, f"{path}/{name}")


def _required(value: Any, wanted: Any, _: Schema, root: Schema, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{path} has no {name}" for name in wanted if name not in value)


def _names(value: Any, wanted: Any, _: Schema, root: Schema, path: str) -> Iterator[str]:
    for name in _names_of(value):
        yield from _problems(name, wanted, root, f"{path}/{name}")


def _additional(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    for name in _names_of(value) - schema.get("properties", {}).keys():
        if wanted is False:
            yield f"{path} has the unknown {name}"
        elif wanted is not True:
            yield from _problems(value[name], wanted, root, f"{path}/{name}")


def _names_of(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


# A keyword that is about another type of value holds.
_PARTS = {
    "$ref": _reference,
    "anyOf": _options,
    "items": _items,
    "properties": _properties,
    "required": _required,
    "propertyNames": _names,
    "additionalProperties": _additional,
}

_CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is,
    "const": lambda value, wanted: value == wanted,
    "enum": lambda value, wanted: value in wanted,
    "minimum": lambda value, wanted: not _is(value, "number") or value >= wanted,
    "maximum": lambda value, wanted: not _is(value, "number") or value <= wanted,
    "minLength": lambda value, wanted: not isinstance(value, str) or len(value) >= wanted,
    "maxLength": lambda value, wanted: not isinstance(value, str) or len(value) <= wanted,
    "minItems": lambda value, wanted: not isinstance(value, list) or len(value) >= wanted,
    "maxItems": lambda value, wanted: not isinstance(value, list) or len(value) <= wanted,
    "pattern": lambda value, wanted: (
        not isinstance(value, str) or re.search(wanted, value) is not None
    ),
}


def _resolved(ref: str, root: Schema) -> Schema:
    found = root
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found
