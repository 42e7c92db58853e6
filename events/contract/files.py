"""The generated files: schemas, the AsyncAPI document and the vectors."""

import json
from pathlib import Path
from typing import Any

from events.contract.asyncapi import make_asyncapi
from events.contract.schemas import event_schemas
from events.contract.vectors import Vectors, make_vectors
from events.registry import UPCASTERS

VECTORS = "vectors.json"
ASYNCAPI = "asyncapi.json"
SCHEMAS = "schemas"


def read_vectors(directory: Path) -> Vectors:
    """The vectors that `directory` holds. Raises `FileNotFoundError`."""
    found: Vectors = json.loads((directory / VECTORS).read_text(encoding="utf-8"))
    return found


def render(directory: Path) -> dict[str, str]:
    """Each file's text by its path in `directory`, whose released vectors are kept.

    Raises `keeping.Changed` where a released vector would come out with other content.
    """
    kept = read_vectors(directory) if (directory / VECTORS).exists() else None
    vectors = make_vectors(kept)
    contents: dict[str, Any] = {
        **{f"{SCHEMAS}/{name}.json": schema for name, schema in event_schemas().items()},
        ASYNCAPI: make_asyncapi(vectors),
        VECTORS: vectors,
    }
    return {path: _text(content) for path, content in contents.items()}


def drift(directory: Path) -> list[str]:
    """The files in `directory` that are not what would be generated, or should not be there."""
    made = render(directory)
    differing = [
        path
        for path, text in made.items()
        if not (directory / path).is_file()
        or (directory / path).read_text(encoding="utf-8") != text
    ]
    return sorted([*differing, *_leftover(directory, made)])


def write(directory: Path) -> list[str]:
    """Bring the files in `directory` up to date; those that changed."""
    made = render(directory)
    changed = drift(directory)
    for path in changed:
        file = directory / path
        if path in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(made[path], encoding="utf-8")
        else:
            file.unlink()
    return changed


def _leftover(directory: Path, made: dict[str, str]) -> list[str]:
    # The schema of a version that is still read stays, for those who still send it.
    old = {f"{SCHEMAS}/{kind}.json" for kind in UPCASTERS}
    present = {f"{SCHEMAS}/{file.name}" for file in (directory / SCHEMAS).glob("*.json")}
    return sorted(present - made.keys() - old)


def _text(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
