"""The books of a running system, held against the sandbox's bill."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import func, select

from events import Provider
from store import accounts, analyses, credits, ledger
from store.ledger import LedgerRow
from store.schema import analyses as requests_table
from store.schema import credit_periods, daily_usage
from tests.integration.process.running import Up
from tests.unit.store.rows import rollups_of
from workers.settings import SANDBOX_PLATFORM_KEYS

TOKENS = ("input_tokens", "cached_read_tokens", "cache_write_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Books:
    """What the store says was done, and what the sandbox says was charged."""

    ledger: list[LedgerRow]
    unknown: list[Any]
    ended: dict[str, int]
    charged: list[dict[str, Any]]
    rollups: dict[tuple[str, ...], dict[str, int]]

    @classmethod
    def of(cls, up: Up) -> "Books":
        """Read them, once every usage row has arrived."""
        up.await_outbox()
        up.sandbox.wait_idle()
        key_columns = [column.name for column in daily_usage.primary_key]
        with up.app.database.read() as connection:
            rollups = {
                tuple(row[name] for name in key_columns): {
                    name: value for name, value in row.items() if name not in key_columns
                }
                for row in connection.execute(select(daily_usage)).mappings()
            }
            states = Counter(connection.execute(select(requests_table.c.state)).scalars())
            return cls(
                ledger=ledger.rows_of(connection),
                unknown=analyses.unknown_attempts(connection),
                ended=dict(states),
                charged=up.sandbox.billed_calls(),
                rollups=rollups,
            )

    @property
    def billed(self) -> list[LedgerRow]:
        """The ledger's rows for what a provider charges."""
        return [row for row in self.ledger if row.kind != ledger.NONE]


def digest_of(row: Any, pasted: Mapping[str, str]) -> str:
    """Which key paid for a ledger row or an attempt, as the sandbox tells keys apart.

    `pasted` has the accounts' own keys by key id.
    """
    key = pasted[row.key_id] if row.key_id else SANDBOX_PLATFORM_KEYS[Provider(row.provider)]
    return sha256(key.encode()).hexdigest()


def assert_the_ledger_is_the_bill(books: Books, pasted: Mapping[str, str]) -> None:
    """Call by call and token by token, with what was lost listed as unknown."""
    charged = {call["request_id"]: call for call in books.charged}
    for row in books.billed:
        # Popped, so that two rows for one call are a failure here.
        call = charged.pop(str(row.provider_request_id))
        assert (row.provider, row.model) == (call["provider"], call["model"])
        assert digest_of(row, pasted) == call["key_digest"]
        assert {name: getattr(row, name) for name in TOKENS} == {
            name: call[name] for name in TOKENS
        }
    lost = Counter(digest_of(attempt, pasted) for attempt in books.unknown)
    assert Counter(call["key_digest"] for call in charged.values()) == lost


def assert_counted_once(books: Books) -> None:
    """Each completed request is one operation, and the rollups are the ledger's sums."""
    completing = Counter(row.request_id for row in books.ledger if row.completes)
    assert set(completing.values()) <= {1}
    assert len(completing) == books.ended.get(analyses.COMPLETED, 0)
    attempts = Counter((row.request_id, row.attempt) for row in books.ledger)
    assert set(attempts.values()) <= {1}
    assert books.rollups == rollups_of(books.ledger)
    assert set(books.ended) <= set(analyses.TERMINAL)


def assert_credits_are_settled(up: Up, account: str) -> None:
    """One credit for each completed platform operation, and none is held any more."""
    with up.app.database.read() as connection:
        known = accounts.find(connection, account)
        assert known is not None
        completed = connection.execute(
            select(func.count()).where(
                requests_table.c.account_id == account,
                requests_table.c.state == analyses.COMPLETED,
                requests_table.c.credential == "platform",
                requests_table.c.answered_by == "model",
            )
        ).scalar_one()
        assert credits.standing(connection, known) == (completed, 0)
        assert not connection.execute(
            select(credit_periods).where(credit_periods.c.reserved != 0)
        ).all()


def totals(rows: Iterable[Mapping[str, Any]], *names: str) -> dict[str, int]:
    """The sums of the named fields."""
    summed = list(rows)
    return {name: sum(row[name] for row in summed) for name in names}
