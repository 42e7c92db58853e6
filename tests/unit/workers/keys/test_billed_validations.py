"""Validations that are paid for: once, and never with a key that is not the account's any more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from events import Provider
from store import keys, outbox, pauses
from store.engine import Database
from tests.integration.keys.keeping import put_key
from workers.app import App
from workers.keychanges import cause_of
from workers.keys.validation import validate
from workers.providers.port import Proof, Tokens, Undecided


@dataclass
class Billing:
    """A provider that is paid to say that a key works; `meanwhile` happens as it is asked."""

    meanwhile: Callable[[], object] = object
    paid: int = 0

    async def probe(self, *_: object, **__: object) -> Undecided:
        self.meanwhile()
        return Undecided()

    async def spend(self, *_: object, **__: object) -> Proof:
        self.paid += 1
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


def test_nothing_is_paid_with_a_key_that_was_removed_while_it_was_looked_at(app: App) -> None:
    put_key(app.database, app.vault, "key-1")

    def removed() -> None:
        with app.database.write() as connection:
            key = keys.find(connection, "key-1")
            assert key is not None
            keys.destroy(connection, key, cause_of(app, "removed"))

    provider = Billing(removed)
    app.__dict__.update(providers=dict.fromkeys(Provider, provider), lease=Held())
    validate(app, "key-1")
    assert provider.paid == 0


def test_nothing_is_paid_to_a_provider_that_was_paused_while_a_key_was_looked_at(app: App) -> None:
    put_key(app.database, app.vault, "key-1")
    made = pauses.Pause(
        kind=pauses.PROVIDER,
        name="openai",
        at=app.effects.now_ms(),
        source="test#ann",
        note="",
        resumed_at=None,
    )

    def paused() -> None:
        with app.database.write() as connection:
            assert pauses.pause(connection, made, "action-1")

    provider = Billing(paused)
    app.__dict__.update(providers=dict.fromkeys(Provider, provider), lease=Held())
    validate(app, "key-1")
    assert provider.paid == 0
