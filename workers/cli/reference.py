"""`docs/commands.md` and `docs/commands.json`: every command, made from its code.

`python -m workers.cli.reference` writes both; a test compares them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from workers.cli import exits
from workers.cli.main import app
from workers.cli.output import OUTPUTS

_DOCS = Path(__file__).parents[2] / "docs"
PAGE = _DOCS / "commands.md"
FILE = _DOCS / "commands.json"

_HEAD = """# Commands

Made by `python -m workers.cli.reference`; do not edit.

`byok --version` prints the version, and `byok COMMAND --help` what this page says. With `--json` a
command prints one JSON object, or one per line where noted; [commands.json](commands.json) has the
JSON Schema of each. New fields may be added; within a major version none is removed or changes its
meaning.

Stdout holds only what was asked for. Notes and errors go to stderr, an error as one sentence.
Colours, bars and live views appear only on a terminal, and no colours with `NO_COLOR`. The only
commands that ask for input are `keys add` and `keys replace`: on a terminal they prompt for the
key, elsewhere they read it from standard input.

| exit code | means |
|---|---|
"""
_EXAMPLE = re.compile(r"Example: (`byok [^`]+`)")


def commands(group: Any = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """All commands by their names (`keys add`), in the order of the help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def text(command: Any) -> str:
    """What a command's help says, in one paragraph."""
    return " ".join((command.help or "").split())


def example(command: Any) -> str | None:
    """The example in a command's help."""
    found = _EXAMPLE.search(text(command))
    return found[1].strip("`") if found else None


def schemas() -> dict[str, Any]:
    """By command: an example, its exit codes, and the JSON Schema of what it prints."""
    shapes = {name.removesuffix("[]"): (name, shape) for name, shape in OUTPUTS.items()}
    return {
        name: {
            "example": example(command),
            "exit_codes": {str(code): what for code, what in exits.codes(name).items()},
            "one_object_a_line": shapes[name][0].endswith("[]"),
            "output": TypeAdapter(shapes[name][1]).json_schema(mode="serialization"),
        }
        for name, command in sorted(commands())
    }


def page() -> str:
    """The page."""
    lines = [_HEAD + "\n".join(f"| {code} | {what} |" for code, what in exits.codes().items())]
    for name, command in commands():
        lines += ["", f"## byok {name}", "", f"{text(command)}", "", _usage(name, command)]
        lines += _options(command)
        each = " `--json` prints one object a line." if f"{name}[]" in OUTPUTS else ""
        lines += ["", f"Exit code 1: {exits.codes(name)[1]}.{each}"]
    return "\n".join(lines) + "\n"


def _usage(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=f"byok {name}")
    pieces = (piece for piece in command.collect_usage_pieces(context) if piece)
    return " ".join(("    byok", name, *pieces))


def _options(command: Any) -> list[str]:
    shown = [
        parameter
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.hidden
    ]
    if not shown:
        return []
    rows = ["", "| option | meaning |", "|---|---|"]
    for option in shown:
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        rows.append(f"| {names} | {(option.help or '').replace('|', chr(92) + '|')} |")
    return rows


def schemas_text() -> str:
    """The JSON file's text."""
    return json.dumps(schemas(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    FILE.write_text(schemas_text())
