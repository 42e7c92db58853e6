"""What an older version had in its store and on its queue, laid into a database of today."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Boolean, Column, MetaData, Table, null

from store import migrate
from store.engine import Database
from tests.road import Road

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it lay on its queue."""

    queue: str
    body: bytes
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recording:
    """A system of an older version in the midst of its work (`record.py` made it)."""

    revision: str
    at: int
    tables: Mapping[str, list[dict[str, Any]]]
    taken: list[Message]
    not_taken: list[Message]

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """Read a file that `record.py` wrote."""
        found = json.loads(path.read_text())
        return cls(
            revision=found["revision"],
            at=found["at"],
            tables={
                name: [{field: _value(value) for field, value in row.items()} for row in rows]
                for name, rows in found["tables"].items()
            },
            taken=[_message(one) for one in found["taken"]],
            not_taken=[_message(one) for one in found["not_taken"]],
        )

    def put_on_queues(self, road: Road) -> None:
        """Put all messages of its time on their queues, those that were acted on among them."""
        for message in self.taken + self.not_taken:
            road.put_raw(message.queue, message.body, dict(message.options))

    def lay_into(self, database: Database) -> None:
        """Give an empty database the schema of then, and its rows."""
        migrate.upgrade(database, self.revision)
        with database.write() as connection:
            for name, rows in self.tables.items():
                table = Table(name, MetaData(), autoload_with=connection)
                for row in rows:
                    values = {field: _as(table.c[field], value) for field, value in row.items()}
                    connection.execute(table.insert().values(values))


def _message(recorded: Mapping[str, str]) -> Message:
    body = recorded["message"]
    return Message(recorded["queue"], body.encode(), json.loads(body)["options"])


def _value(recorded: Any) -> Any:
    return base64.b64decode(recorded["b64"]) if isinstance(recorded, dict) else recorded


def _as(column: Column[Any], value: Any) -> Any:
    """A value of SQLite's, for a column of either database."""
    if value is None:
        return null()
    if isinstance(column.type, Boolean):
        return bool(value)
    return json.loads(value) if isinstance(column.type, JSON) else value
