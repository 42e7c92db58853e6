"""An answer that fits a JSON schema, filled with suggested values where they fit.

Covers what the two SDKs put on the wire for a Pydantic model: objects, arrays, strings, numbers,
integers, booleans, null, `enum`, `const`, `anyOf`, `$ref` with `$defs`, bounds, lengths, patterns
and the common formats. Anthropic's SDK moves bounds into the description, as
`{minimum: 0, maximum: 1}`; they are read there too, as a model would.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

Schema = Mapping[str, Any]

MAX_DEPTH = 30

_MISSING: Any = object()
_IN_DESCRIPTION = re.compile(r"\b(\w+): (-?\d+(?:\.\d+)?)(?=[,}])")
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1H",
    "email": "nobody@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TEXTS = ("none", "", "a", "A", "0", "1", "00", "a1", "none-0", *_FORMATS.values())
_NEUTRAL = ("other", "none", "neutral", "normal", "unknown", "low")


class SchemaRefused(ValueError):
    """The schema asks for something that the sandbox cannot answer."""


class Suggest(Protocol):
    """Names the values that a property should have, best first; `members` is its enum, if any."""

    def __call__(self, name: str, members: Sequence[Any] | None) -> Sequence[Any]: ...


def answer(schema: Schema, suggest: Suggest) -> Any:
    """A value that fits `schema`. Raises `SchemaRefused` where there is none to be found."""
    return _Walk(schema, suggest).value(schema, "", 0)


class _Walk:
    def __init__(self, root: Schema, suggest: Suggest) -> None:
        self._root = root
        self._suggest = suggest

    def value(self, schema: Schema, name: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise SchemaRefused("the schema is nested too deeply")
        schema = self._resolved(schema)
        suggested = self._suggested(schema, name)
        if suggested is not _MISSING:
            return suggested
        if members := _members(schema):
            return next((member for member in members if member in _NEUTRAL), members[0])
        if branches := [self._resolved(branch) for branch in _branches(schema)]:
            nothing = [branch for branch in branches if branch.get("type") == "null"]
            return self.value((nothing or branches)[0], name, depth + 1)
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                count = int(_bound(schema, "minItems") or 0)
                return [self.value(schema["items"], name, depth + 1) for _ in range(count)]
            case "string":
                return _string(schema)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return False
        return None

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, part in schema.get("properties", {}).items():
            if name in schema.get("required", ()):
                found[name] = self.value(part, name, depth + 1)
            else:
                # What nobody asked for is left out, which also ends recursive schemas.
                value = self._suggested(self._resolved(part), name)
                if value is not _MISSING:
                    found[name] = value
        return found

    def _suggested(self, schema: Schema, name: str) -> Any:
        """The best suggestion that fits, or `_MISSING`."""
        for branch in _branches(schema):
            value = self._suggested(self._resolved(branch), name)
            if value is not _MISSING:
                return value
        members = _members(schema)
        for candidate in self._suggest(name, members):
            value = _fitted(candidate, schema, members)
            if value is not _MISSING:
                return value
        return _MISSING

    def _resolved(self, schema: Schema) -> Schema:
        """What `schema` refers to, or itself."""
        for _ in range(MAX_DEPTH):
            if "$ref" not in schema:
                return schema
            place: Any = self._root
            for step in schema["$ref"].removeprefix("#").split("/")[1:]:
                place = place.get(step.replace("~1", "/").replace("~0", "~"))
                if not isinstance(place, Mapping):
                    raise SchemaRefused(f"the schema has no {schema['$ref']}")
            schema = {**place, **{key: part for key, part in schema.items() if key != "$ref"}}
        raise SchemaRefused("the schema's references go round in a circle")


def _members(schema: Schema) -> Sequence[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _branches(schema: Schema) -> Sequence[Schema]:
    if isinstance(kinds := schema.get("type"), list):
        return [{**schema, "type": kind} for kind in kinds]
    branches: Sequence[Schema] = schema.get("anyOf") or schema.get("oneOf") or ()
    return branches


def _bound(schema: Schema, name: str) -> float | None:
    """The bound `name` of `schema`, from the keyword or else from the description."""
    value: float | None = schema.get(name)
    if value is None and "{" in (description := schema.get("description", "")):
        value = _described(description).get(name)
    return value


@lru_cache(maxsize=512)
def _described(description: str) -> dict[str, float]:
    tail = description[description.rfind("{") :]
    return {name: float(number) for name, number in _IN_DESCRIPTION.findall(tail)}


def _fitted(candidate: Any, schema: Schema, members: Sequence[Any] | None) -> Any:
    """`candidate` as `schema` takes it, or `_MISSING`."""
    if members is not None:
        fits = any(type(member) is type(candidate) and member == candidate for member in members)
        return candidate if fits else _MISSING
    match schema.get("type"), candidate:
        case ("null", None) | ("boolean", bool()):
            return candidate
        case "string", str():
            return _string(schema, candidate)
        case ("integer" | "number") as kind, float():
            # A share of one, also where a percentage is wanted.
            percent = kind == "integer" or (_bound(schema, "maximum") or 1) > 1
            wanted = candidate * 100 if percent else candidate
            return _number(schema, wanted, whole=kind == "integer")
    return _MISSING


def _string(schema: Schema, wanted: str | None = None) -> Any:
    shortest, longest = (_bound(schema, name) for name in ("minLength", "maxLength"))
    pattern = schema.get("pattern")
    usual = (_FORMATS.get(schema.get("format", ""), "none"), *_TEXTS)
    for text in usual if wanted is None else (wanted,):
        fitted = text[: None if longest is None else int(longest)].ljust(int(shortest or 0), ".")
        if pattern is None or re.search(pattern, fitted):
            return fitted
    if wanted is not None:
        return _MISSING
    raise SchemaRefused(f"the sandbox finds no text for the pattern {pattern}")


def _number(schema: Schema, wanted: float = 0, *, whole: bool) -> float:
    step = _bound(schema, "multipleOf") or (1 if whole else 0)
    nudge = step or 1e-6
    low = max(
        _or(_bound(schema, "minimum"), -math.inf),
        _or(_bound(schema, "exclusiveMinimum"), -math.inf) + nudge,
    )
    high = min(
        _or(_bound(schema, "maximum"), math.inf),
        _or(_bound(schema, "exclusiveMaximum"), math.inf) - nudge,
    )
    value = max(low, min(high, wanted))
    if step:
        value = math.ceil(value / step) * step
        value = value if value <= high else math.floor(high / step) * step
    if not low <= value <= high:
        raise SchemaRefused("the schema has no number between its bounds")
    return int(value) if whole else value


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
