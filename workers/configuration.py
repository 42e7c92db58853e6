"""`docs/configuration.md`: every setting, made from `workers.settings`.

`python -m workers.configuration` writes it; a test compares it.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from workers.settings import SECRETS, Settings

PATH = Path(__file__).parents[1] / "docs" / "configuration.md"

_HEAD = """# Configuration

Made by `python -m workers.configuration`; do not edit.

Everything is configured by environment variables. An empty variable counts as not set. With none
set, everything runs embedded under the state directory: Valkey, SQLite, generated keys (mode 0600)
and the provider sandbox. A wrong value ends the process with one sentence that names the variable
and never repeats the value.

A variable marked *or a file* may be read from a file instead: append `_FILE` to its name, as in
`BYOK_MASTER_KEYS_FILE=/run/secrets/master_keys`. Setting both is refused.

Provider endpoints are set by the operator only; an event never names one.
"""


def document() -> str:
    """The page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    yield "| variable | default | takes | meaning |\n|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"BYOK_{name.upper()}")
        file = " or a file" if name in SECRETS else ""
        text = (field.description or "").replace("|", "\\|")
        yield f"| `{variable}`{file} | {_default(field)} | {_takes(field)} | {text} |"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == {}:
        return "none"
    if isinstance(value, tuple):
        return "`" + ",".join(_plain(one) for one in value) + "`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _takes(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) in (dict, Mapping):
        return "text"
    options = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is tuple:
        return f"list of {_kind(options[0])}"
    if type(None) in get_args(kind):
        return _kind(options[0])
    return _kind(kind) + _limits(field)


def _kind(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    if get_args(kind):
        return ", ".join(f"`{one}`" for one in get_args(kind))
    names = {"int": "whole number", "float": "number", "Path": "path"}
    return names.get(kind.__name__, "text")


def _limits(field: FieldInfo) -> str:
    low = [str(one.ge) for one in field.metadata if isinstance(one, Ge)]
    above = [str(one.gt) for one in field.metadata if isinstance(one, Gt)]
    high = [f"{one.le:,}" for one in field.metadata if isinstance(one, Le)]
    told = [*(f"from {one}" for one in low), *(f"above {one}" for one in above)]
    told += [f"to {one}" for one in high]
    return f", {' '.join(told)}" if told else ""


if __name__ == "__main__":
    PATH.write_text(document())
