"""A commit that is durable and not heard of, as when a connection is lost in it: all runs again."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from events import Provider
from store import outbox
from store.engine import Database
from tests.integration.keys.keeping import put_key
from workers.app import App
from workers.keys.validation import validate
from workers.providers.port import Proof, Tokens, Undecided


class Billing:
    """A provider that has to be paid to say that a key works."""

    async def probe(self, *_: object, **__: object) -> Undecided:
        return Undecided()

    async def spend(self, *_: object, **__: object) -> Proof:
        return Proof(stage=2, request_id="req_1", tokens=Tokens(input=1, output=1))


class Held:
    """A lease that is never lost."""

    def holder(self, _connection: Connection) -> str:
        return "process-1"


def test_a_billed_validation_whose_commit_was_not_heard_of_is_billed_once(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_key(app.database, app.vault, "key-1")
    app.__dict__.update(providers=dict.fromkeys(Provider, Billing()), lease=Held())
    real, calls = Database.write, []

    @contextmanager
    def write(self: Database) -> Iterator[Connection]:
        with real(self) as connection:
            yield connection
        calls.append(self)
        if len(calls) == 3:
            # After the beginning and the note: the verdict is in the store.
            raise OperationalError("COMMIT", {}, ConnectionError("lost"))

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", write)
        validate(app, "key-1")
    assert len(calls) == 4
    with app.database.write() as connection:
        assert len(outbox.take_due(connection, outbox.USAGE, app.effects.now_ms(), 10)) == 1
