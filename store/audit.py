"""The audit: requests, attempts, ledger, credits, budgets and outbox held against each other.

Every check reads the same moment (`Database.snapshot`). What is on its way is no difference: a
usage row is on the ledger or in the outbox, never in both and never in neither.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, or_, select

from store import analyses as requests
from store import books, months, outbox, partitions
from store.budgets import Standing
from store.ledger import BILLED
from store.schema import (
    analyses,
    attempts,
    budget_holds,
    budget_months,
    credit_periods,
    deletions,
    ledger,
    surrogates,
)
from store.schema import outbox as outbox_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that does not match: what was compared, about whom, and how."""

    check: str
    about: str
    sentence: str


@dataclass(slots=True)
class Audit:
    """What was compared (rows, by check) and what does not match."""

    compared: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unknown_attempts: int = 0
    """Attempts whose answer was lost: they may have been billed, and are on no ledger."""

    def note(self, check: str, compared: int, findings: Iterable[tuple[str, str]] = ()) -> None:
        """Note a check: how much it compared, and (about, sentence) of what does not match."""
        self.compared[check] = self.compared.get(check, 0) + compared
        self.findings += [Finding(check=check, about=a, sentence=s) for a, s in findings]


def audit(connection: Connection) -> Audit:
    """Hold the books against each other. The connection is of `Database.snapshot`."""
    found = Audit()
    _added_up(connection, found)
    pending = _pending(connection, found)
    since = _kept_since(connection)
    _operations(connection, found, pending, since)
    _attempts(connection, found, pending, since)
    _credits(connection, found)
    _budgets(connection, found)
    found.unknown_attempts = len(requests.unknown_attempts(connection))
    return found


def _added_up(connection: Connection, found: Audit) -> None:
    wrong = books.differences(connection)
    rows = connection.execute(select(func.count()).select_from(ledger)).scalar_one()
    for what in (books.ROLLUPS, books.SPENDING, books.KEY_COUNTS):
        found.note(
            what,
            rows,
            (
                (
                    " ".join(difference.key.values()),
                    ", ".join(
                        f"{name} is {difference.live[name]}, the ledger has {number}"
                        for name, number in difference.rebuilt.items()
                    ),
                )
                for difference in wrong
                if difference.what == what
            ),
        )


@dataclass(frozen=True, slots=True)
class _Pending:
    """Usage rows that wait in the outbox: (surrogate, request) and (…, attempt) that they bill."""

    completing: frozenset[tuple[str, str]]
    billed: frozenset[tuple[str, str, int]]


def _pending(connection: Connection, found: Audit) -> _Pending:
    rows = connection.execute(
        select(outbox_table.c.id, outbox_table.c.payload, ledger.c.id.label("recorded"))
        .outerjoin(ledger, ledger.c.id == outbox_table.c.id)
        .where(outbox_table.c.kind == outbox.USAGE)
    ).all()
    found.note(
        "outbox",
        len(rows),
        ((row.id, "waits to be recorded and is on the ledger") for row in rows if row.recorded),
    )
    fields = [json.loads(row.payload) for row in rows]
    return _Pending(
        frozenset((f["surrogate"], f["request_id"]) for f in fields if f["completes"]),
        frozenset(
            (f["surrogate"], f["request_id"], f["attempt"]) for f in fields if f["kind"] in BILLED
        ),
    )


def _kept_since(connection: Connection) -> int:
    """From which Unix ms on the ledger is whole."""
    floor = partitions.floor(connection)
    return months.start_ms(months.plus(floor, 1)) if floor else 0


def _of_this_life(account: Any, at: Any) -> Any:
    """Of the account's present life: what was before a deletion lies under a name that is gone."""
    last = (
        select(func.coalesce(func.max(deletions.c.at), -1))
        .where(deletions.c.account_id == account)
        .scalar_subquery()
    )
    return at > last


def _operations(connection: Connection, found: Audit, pending: _Pending, since: int) -> None:
    """Each completed request is one operation on the ledger, and no operation is of another."""
    check = "requests"
    completing = (
        select(ledger.c.surrogate, ledger.c.request_id, func.count().label("times"))
        .where(ledger.c.completes)
        .group_by(ledger.c.surrogate, ledger.c.request_id)
    )
    on_ledger = completing.subquery()
    completed = (
        select(
            analyses.c.account_id,
            analyses.c.request_id,
            surrogates.c.surrogate,
            func.coalesce(on_ledger.c.times, 0).label("times"),
        )
        .outerjoin(surrogates, surrogates.c.account_id == analyses.c.account_id)
        .outerjoin(
            on_ledger,
            and_(
                on_ledger.c.surrogate == surrogates.c.surrogate,
                on_ledger.c.request_id == analyses.c.request_id,
            ),
        )
        .where(
            analyses.c.state == requests.COMPLETED,
            analyses.c.finished_at >= since,
            _of_this_life(analyses.c.account_id, analyses.c.created_at),
        )
    )
    found.note(check, _count(connection, completed))
    for row in connection.execute(_where_count_is_not_one(completed)):
        if row.times or (row.surrogate, row.request_id) not in pending.completing:
            found.note(
                check,
                0,
                [(_of(row), f"is completed and {row.times} operations of it are on the ledger")],
            )
    strangers = (
        select(surrogates.c.account_id, on_ledger.c.request_id)
        .join(surrogates, surrogates.c.surrogate == on_ledger.c.surrogate)
        .outerjoin(
            analyses,
            and_(
                analyses.c.account_id == surrogates.c.account_id,
                analyses.c.request_id == on_ledger.c.request_id,
            ),
        )
        .where(or_(analyses.c.state.is_(None), analyses.c.state != requests.COMPLETED))
    )
    found.note(
        check,
        0,
        (
            (_of(row), "is an operation on the ledger and not a completed request")
            for row in connection.execute(strangers)
        ),
    )
    double = completing.having(func.count() > 1)
    found.note(
        "operations counted once",
        _count(connection, completing),
        (
            (f"{row.surrogate} {row.request_id}", f"is counted {row.times} times")
            for row in connection.execute(double)
        ),
    )


def _attempts(connection: Connection, found: Audit, pending: _Pending, since: int) -> None:
    """Each attempt that was answered is billed once, and nothing else is billed."""
    check = "attempts"
    by_attempt = (ledger.c.surrogate, ledger.c.request_id, ledger.c.attempt)
    billed = (
        select(*by_attempt, func.count().label("times"))
        .where(ledger.c.kind.in_(BILLED))
        .group_by(*by_attempt)
    )
    on_ledger = billed.subquery()
    answered = (
        select(
            attempts.c.account_id,
            attempts.c.request_id,
            attempts.c.attempt,
            surrogates.c.surrogate,
            func.coalesce(on_ledger.c.times, 0).label("times"),
        )
        .outerjoin(surrogates, surrogates.c.account_id == attempts.c.account_id)
        .outerjoin(
            on_ledger,
            and_(
                on_ledger.c.surrogate == surrogates.c.surrogate,
                on_ledger.c.request_id == attempts.c.request_id,
                on_ledger.c.attempt == attempts.c.attempt,
            ),
        )
        .where(
            attempts.c.state == "answered",
            attempts.c.ended_at >= since,
            _of_this_life(attempts.c.account_id, attempts.c.started_at),
        )
    )
    found.note(check, _count(connection, answered))
    for row in connection.execute(_where_count_is_not_one(answered)):
        if row.times or (row.surrogate, row.request_id, row.attempt) not in pending.billed:
            found.note(
                check,
                0,
                [(_of(row), f"was answered and is billed {row.times} times on the ledger")],
            )
    strangers = (
        select(surrogates.c.account_id, on_ledger.c.request_id, on_ledger.c.attempt)
        .join(surrogates, surrogates.c.surrogate == on_ledger.c.surrogate)
        .outerjoin(
            attempts,
            and_(
                attempts.c.account_id == surrogates.c.account_id,
                attempts.c.request_id == on_ledger.c.request_id,
                attempts.c.attempt == on_ledger.c.attempt,
            ),
        )
        .where(or_(attempts.c.state.is_(None), attempts.c.state != "answered"))
    )
    found.note(
        check,
        0,
        (
            (_of(row), "is billed on the ledger and not an attempt that was answered")
            for row in connection.execute(strangers)
        ),
    )
    found.note(
        "calls billed once",
        _count(connection, billed),
        (
            (f"{row.surrogate} {row.request_id} {row.attempt}", f"is billed {row.times} times")
            for row in connection.execute(billed.having(func.count() > 1))
        ),
    )


def _credits(connection: Connection, found: Audit) -> None:
    """What is used is the completed platform operations; what is reserved, what requests hold."""
    paid = and_(
        analyses.c.state == requests.COMPLETED,
        analyses.c.credential == "platform",
        analyses.c.answered_by == "model",
    )
    operations = _keyed(
        connection,
        select(analyses.c.account_id, func.count()).where(paid).group_by(analyses.c.account_id),
    )
    used = _keyed(
        connection,
        select(credit_periods.c.account_id, func.sum(credit_periods.c.used)).group_by(
            credit_periods.c.account_id
        ),
    )
    found.note(
        "credits used",
        len(used),
        (
            (of[0], f"used {used.get(of, 0)} for {operations.get(of, 0)} operations")
            for of in sorted({*operations, *used})
            if used.get(of, 0) != operations.get(of, 0)
        ),
    )
    key = (analyses.c.account_id, analyses.c.credit_period_at)
    held = _keyed(
        connection,
        select(*key, func.count()).where(analyses.c.credit_period_at.is_not(None)).group_by(*key),
    )
    reserved = _keyed(
        connection,
        select(
            credit_periods.c.account_id,
            credit_periods.c.period_start_at,
            credit_periods.c.reserved,
        ).where(credit_periods.c.reserved != 0),
    )
    found.note(
        "credits reserved",
        len(reserved),
        (
            (f"{of[0]} {of[1]}", f"reserved {reserved.get(of, 0)}, requests hold {held.get(of, 0)}")
            for of in sorted({*held, *reserved})
            if held.get(of, 0) != reserved.get(of, 0)
        ),
    )


def _budgets(connection: Connection, found: Audit) -> None:
    """What is reserved or on its way is what attempts hold, and only open requests reserve."""
    in_flight = budget_holds.c.row_id.is_(None)
    holds = {
        (row.scope, row.month): Standing(spent=0, billed=int(row[3]), reserved=int(row[2]))
        for row in connection.execute(
            select(
                budget_holds.c.scope,
                budget_holds.c.month,
                func.sum(case((in_flight, budget_holds.c.nano_usd), else_=0)),
                func.sum(case((in_flight, 0), else_=budget_holds.c.nano_usd)),
            ).group_by(budget_holds.c.scope, budget_holds.c.month)
        )
    }
    live = {
        (row.scope, row.month): Standing(
            spent=0, billed=row.billed_nano_usd, reserved=row.reserved_nano_usd
        )
        for row in connection.execute(
            select(budget_months).where(
                or_(budget_months.c.billed_nano_usd != 0, budget_months.c.reserved_nano_usd != 0)
            )
        )
    }
    nothing = Standing(spent=0, billed=0, reserved=0)
    found.note(
        "budgets",
        len(live),
        (
            (
                f"{of[0]} {of[1]}",
                f"stands at {live.get(of, nothing)}, attempts hold {holds.get(of, nothing)}",
            )
            for of in sorted({*holds, *live})
            if holds.get(of, nothing) != live.get(of, nothing)
        ),
    )
    stale = (
        select(budget_holds.c.account_id, budget_holds.c.request_id, budget_holds.c.attempt)
        .join(
            analyses,
            and_(
                analyses.c.account_id == budget_holds.c.account_id,
                analyses.c.request_id == budget_holds.c.request_id,
            ),
        )
        .where(in_flight, analyses.c.state.in_(requests.TERMINAL))
    )
    found.note(
        "budgets",
        0,
        (
            (_of(row), "has ended and still reserves something of a budget")
            for row in connection.execute(stale)
        ),
    )


def _where_count_is_not_one(statement: Select[Any]) -> Select[Any]:
    compared = statement.subquery()
    return select(compared).where(compared.c.times != 1)


def _count(connection: Connection, statement: Select[Any]) -> int:
    return connection.execute(select(func.count()).select_from(statement.subquery())).scalar_one()


def _keyed(connection: Connection, statement: Select[Any]) -> dict[tuple[Any, ...], int]:
    """Rows by all of their columns but the last, which is a number."""
    return {tuple(row[:-1]): int(row[-1]) for row in connection.execute(statement)}


def _of(row: Any) -> str:
    attempt = getattr(row, "attempt", None)
    return " ".join(map(str, filter(None, (row.account_id, row.request_id, attempt))))
