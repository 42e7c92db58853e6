"""What a call of a provider costs the store where nothing is out of the ordinary: one statement
that reads, one that starts the attempt, one that writes its result.

What holds a request back, and what ends it without a result, goes step by step in a transaction
that passes the account's gate (`store.gate`). Nearly all requests meet nothing of that. For them
the steps are put together, so that on PostgreSQL each statement is a transaction of its own and one
round trip: it passes the gate inside and writes only if all that was read before still holds there.
Where it does not, or anything is unusual, nothing is written and the answer is false: then it is
done step by step.

On SQLite, where a round trip costs nothing, the same is done in one write transaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    String,
    TextClause,
    and_,
    bindparam,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from store import accounts, analyses, cooldowns, credits, gate, keys, leases, outbox
from store.accounts import Account
from store.analyses import NewRequest, Request
from store.keys import KeyRecord
from store.schema import accounts as account_rows
from store.schema import analyses as analysis_rows
from store.schema import cooldowns as cooldown_rows
from store.schema import (
    credit_periods,
    data_keys,
    key_settings,
    key_slots,
    provider_keys,
    surrogates,
)
from store.vault import StoredKey, WrappedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """An active key of the account's, and until when (Unix ms) it is not to be called, if so."""

    record: KeyRecord
    stored: StoredKey | None
    held_back_until: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a claim is decided on, as it was at one moment.

    `account_version` and `key_versions` stand for it: what was read is so for as long as they are.
    They are `None` on SQLite, where it is read in the transaction that writes.
    """

    account: Account
    account_version: str | None
    key_versions: str | None
    surrogate: str | None
    data_key: WrappedKey | None
    credits_taken: int | None
    """Used and reserved in the account's period; `None` before the first of it."""
    own: Mapping[str, Own]
    request: Request | None
    input: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An attempt to be started: the first of a fresh request, or the next of one that waits."""

    request: NewRequest | Request
    attempt: int
    process_id: str
    provider: str
    model: str
    credential: str
    key_id: str | None
    fallback_reason: str | None
    prompt_version: str
    reserves_credit: bool
    reuse_digest: bytes | None = field(repr=False)
    """It is not started where there is a result for this that was finished at `reusable_from`."""
    reusable_from: int
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """A result to be written for an attempt, with what follows of it. Times are Unix ms."""

    account_id: str
    request_id: str
    attempt: int
    provider_request_id: str | None
    credential: str
    key_id: str | None
    key_revision: int | None
    credit_period_at: int | None
    result: Mapping[str, Any]
    usage: Mapping[str, Any]
    prompt_version: str | None
    result_text: bytes | None = field(repr=False)
    reuse_digest: bytes | None = field(repr=False)
    outbox: Sequence[tuple[str, outbox.OutboxRow]]
    """What is to be sent, with its kind."""
    outbox_grace: int
    """How many ms after `now` the relay may send it."""
    now: int


def scene(connection: Connection, account_id: str, request_id: str | None = None) -> Scene | None:
    """What stands in the store of an account, and of a request of it; `None` where it is unknown.

    Without `request_id` the request is one that is not known yet.
    """
    statement = _scene(connection.dialect.name, with_request=request_id is not None)
    given = {"account": account_id, "request": request_id}
    rows = connection.execute(statement, given).all()
    if not rows:
        return None
    first = rows[0]
    data_key, request = None, None
    if first.data_master_key_id is not None:
        data_key = WrappedKey(first.data_master_key_id, first.data_wrapped_key)
    if request_id is not None and first.of_request_request_id is not None:
        request = Request(account_id=account_id, **_part(first, _OF_REQUEST))
    return Scene(
        account=accounts.of_row(first),
        account_version=first.account_version,
        key_versions=first.key_versions,
        surrogate=first.surrogate,
        data_key=data_key,
        credits_taken=first.credits_taken,
        own={row.of_key_provider: _own(row) for row in rows if row.of_key_key_id is not None},
        request=request,
        input=first.of_request_input if request_id is not None else None,
    )


def platform_held_back(connection: Connection, provider: str, now: int) -> bool:
    """Whether the platform's key for a provider is not to be called now."""
    scope = cooldowns.platform_scope(provider)
    return bool(cooldowns.active(connection, [scope], now))


def as_started(begin: Start, seen: Scene) -> Request:
    """The request as it stands once the attempt is started."""
    account = seen.account
    if isinstance(begin.request, Request):
        known = begin.request
    else:
        fresh = {name: getattr(begin.request, name) for name in NewRequest.__slots__}
        del fresh["input"]
        known = Request(**fresh, **_UNTRIED)
    period = account.period_start_at if begin.reserves_credit else known.credit_period_at
    life = known.account_revision
    return replace(
        known,
        account_revision=account.revision if life is None else life,
        state=analyses.RUNNING,
        reason="",
        due_at=None,
        attempt=begin.attempt,
        process_id=begin.process_id,
        provider=begin.provider,
        model=begin.model,
        credential=begin.credential,
        key_id=begin.key_id,
        fallback_reason=begin.fallback_reason,
        prompt_version=begin.prompt_version,
        credit_period_at=period,
    )


def start(connection: Connection, begin: Start, seen: Scene) -> bool:
    """Start an attempt; false where that has to be done step by step, and nothing is written."""
    if connection.dialect.name == "sqlite":
        return _start_on_sqlite(connection, begin, seen)
    fresh = isinstance(begin.request, NewRequest)
    account_gate, process_gate = gate.numbers(seen.account.account_id, begin.process_id)
    row = asdict(begin.request) if isinstance(begin.request, NewRequest) else {}
    given = row | {
        "account": seen.account.account_id,
        "request": begin.request.request_id,
        "account_gate": account_gate,
        "account_version": seen.account_version,
        "key_versions": seen.key_versions,
        "process_gate": process_gate,
        "process_id": begin.process_id,
        "account_revision": seen.account.revision,
        "attempt": begin.attempt,
        "provider": begin.provider,
        "model": begin.model,
        "credential": begin.credential,
        "key_id": begin.key_id,
        "fallback_reason": begin.fallback_reason,
        "prompt_version": begin.prompt_version,
        "reuse_digest": begin.reuse_digest,
        "reusable_from": begin.reusable_from,
        "period_start_at": seen.account.period_start_at,
        "credits_limit": seen.account.credits_limit,
        "now": begin.now,
    }
    statement = _START[fresh, begin.reserves_credit]
    try:
        return connection.execute(statement, given).first() is not None
    except IntegrityError:
        # Another has just written the same request or attempt.
        return False


@dataclass(frozen=True, slots=True)
class Finished:
    """A result was written. `others_wait`: of the account's requests some wait for their turn."""

    others_wait: bool


def finish(connection: Connection, end: Finish, account_version: str | None) -> Finished | None:
    """Write a result; `None` where that has to be done step by step, and nothing is written."""
    if connection.dialect.name == "sqlite":
        return _finish_on_sqlite(connection, end)
    account_gate, _ = gate.numbers(end.account_id, None)
    given = {
        "account": end.account_id,
        "request": end.request_id,
        "account_gate": account_gate,
        "account_version": account_version,
        "attempt": end.attempt,
        "provider_request_id": end.provider_request_id,
        "credential": end.credential,
        "key_id": end.key_id,
        "key_revision": end.key_revision,
        "credit_period_at": end.credit_period_at,
        "spent": int(end.credential == "platform"),
        "stale": end.now - keys.OK_SECONDS * 1000,
        "result": json.dumps(end.result),
        "usage": json.dumps(end.usage),
        "prompt_version": end.prompt_version,
        "result_text": end.result_text,
        "reuse_digest": end.reuse_digest,
        "rows": json.dumps(
            [{"id": row.id, "kind": kind, "payload": row.payload} for kind, row in end.outbox]
        ),
        "outbox_due": end.now + end.outbox_grace,
        "now": end.now,
    }
    row = connection.execute(_FINISH, given).first()
    return None if row is None else Finished(row.others_wait)


def _start_on_sqlite(connection: Connection, begin: Start, seen: Scene) -> bool:
    # Nothing is written before all has been looked at: the transaction is alone.
    account, request, known = seen.account, begin.request, seen.request
    if known and (known.state, known.attempt) != (analyses.WAITING, begin.attempt - 1):
        return False
    limit, taken = account.credits_limit, seen.credits_taken
    if begin.reserves_credit and (taken is None or (limit is not None and taken >= limit)):
        return False
    if not leases.hold(connection, begin.process_id):
        return False
    digest, reusable_from = begin.reuse_digest, begin.reusable_from
    if digest and analyses.find_reusable(connection, account.account_id, digest, reusable_from):
        return False
    if isinstance(request, NewRequest):
        if not analyses.accept(connection, request):
            return False
        accepted = analyses.find(connection, account.account_id, request.request_id)
    else:
        accepted = request
    if accepted is None:
        return False
    if accepted.account_revision is None:
        analyses.note_life(connection, accepted, account.revision)
    period = account.period_start_at if begin.reserves_credit else accepted.credit_period_at
    analyses.claim(
        connection,
        accepted,
        process_id=begin.process_id,
        provider=begin.provider,
        model=begin.model,
        credential=begin.credential,
        key_id=begin.key_id,
        fallback_reason=begin.fallback_reason,
        credit_period_at=period,
        budget_held=False,
        prompt_version=begin.prompt_version,
        now=begin.now,
    )
    return not begin.reserves_credit or credits.reserve(connection, account)


def _finish_on_sqlite(connection: Connection, end: Finish) -> Finished | None:
    account = accounts.find(connection, end.account_id)
    request = analyses.find(connection, end.account_id, end.request_id)
    if account is None or not account.ai_consent:
        return None
    if request is None or (request.state, request.attempt) != (analyses.RUNNING, end.attempt):
        return None
    if not analyses.end_attempt(
        connection,
        end.account_id,
        end.request_id,
        end.attempt,
        state="answered",
        outcome="ok",
        provider_request_id=end.provider_request_id,
        now=end.now,
        late=False,
    ):
        return None
    analyses.finish(
        connection,
        request,
        state=analyses.COMPLETED,
        reason="",
        now=end.now,
        answered_by="model",
        credential=end.credential,
        result=end.result,
        usage=end.usage,
        prompt_version=end.prompt_version,
        result_text=end.result_text,
        reuse_digest=end.reuse_digest,
    )
    if end.key_id is not None:
        keys.refresh_ok(connection, end.key_id, end.key_revision, end.now)
    for kind, row in end.outbox:
        outbox.add(connection, kind, [row], end.now, due_at=end.now + end.outbox_grace)
    if end.credit_period_at is not None:
        spent = end.credential == "platform"
        credits.settle(connection, end.account_id, end.credit_period_at, spent=spent)
    return Finished(bool(analyses.held(connection, end.account_id, analyses.TURN_WAITS, 1)))


_UNTRIED: dict[str, Any] = dict.fromkeys(
    name for name in Request.__slots__ if name not in NewRequest.__slots__
) | {"attempt": 0, "setbacks": 0, "bad_answers": 0, "refusals": 0, "budget_held": False}
"""What a request has of itself before its first attempt."""

_OF_REQUEST = {name: f"of_request_{name}" for name in Request.__slots__ if name != "account_id"}
_OF_KEY = {
    name: f"of_key_{name}"
    for name in KeyRecord.__slots__
    if name not in ("allow_platform_fallback", "budget_nano_usd")
}
_SECRET_OF_KEY = ("master_key_id", "wrapped_key", "ciphertext")


def _part(row: Row[Any], labels: Mapping[str, str]) -> dict[str, Any]:
    found = row._mapping
    return {name: found[label] for name, label in labels.items()}


def _own(row: Row[Any]) -> Own:
    secret = (row.key_master_key_id, row.key_wrapped_key, row.key_ciphertext)
    return Own(
        record=KeyRecord(
            allow_platform_fallback=bool(row.key_allows),
            budget_nano_usd=row.key_budget,
            **_part(row, _OF_KEY),
        ),
        stored=None if None in secret else StoredKey(*secret),
        held_back_until=row.key_until,
    )


@cache
def _scene(dialect: str, *, with_request: bool) -> Select[Any]:
    """The statement that reads: a row for each active key of the account, or one without a key."""
    account = bindparam("account", type_=String)
    scope_of_key = literal(cooldowns.key_scope("")).concat(provider_keys.c.key_id)
    versions: tuple[Any, ...] = (null(), null())
    if dialect != "sqlite":
        versions = (literal_column("accounts.xmin::text"), func.byok_key_versions(account))
    columns = [
        *account_rows.c,
        versions[0].label("account_version"),
        versions[1].label("key_versions"),
        surrogates.c.surrogate,
        data_keys.c.master_key_id.label("data_master_key_id"),
        data_keys.c.wrapped_key.label("data_wrapped_key"),
        (credit_periods.c.used + credit_periods.c.reserved).label("credits_taken"),
        *(provider_keys.c[name].label(label) for name, label in _OF_KEY.items()),
        *(provider_keys.c[name].label(f"key_{name}") for name in _SECRET_OF_KEY),
        key_settings.c.allow_platform_fallback.label("key_allows"),
        key_settings.c.budget_nano_usd.label("key_budget"),
        cooldown_rows.c.until_at.label("key_until"),
    ]
    source = (
        account_rows.outerjoin(surrogates, surrogates.c.account_id == account_rows.c.account_id)
        .outerjoin(data_keys, data_keys.c.scope == account_rows.c.account_id)
        .outerjoin(
            credit_periods,
            and_(
                credit_periods.c.account_id == account_rows.c.account_id,
                credit_periods.c.period_start_at == account_rows.c.period_start_at,
            ),
        )
        .outerjoin(
            key_slots.join(
                provider_keys,
                and_(
                    provider_keys.c.key_id == key_slots.c.key_id,
                    provider_keys.c.account_id == key_slots.c.account_id,
                    provider_keys.c.provider == key_slots.c.provider,
                    provider_keys.c.removed_at.is_(None),
                ),
            ),
            key_slots.c.account_id == account_rows.c.account_id,
        )
        .outerjoin(
            key_settings,
            and_(
                key_settings.c.account_id == provider_keys.c.account_id,
                key_settings.c.key_id == provider_keys.c.key_id,
            ),
        )
        .outerjoin(cooldown_rows, cooldown_rows.c.scope == scope_of_key)
    )
    if with_request:
        columns += [analysis_rows.c[name].label(label) for name, label in _OF_REQUEST.items()]
        columns.append(analysis_rows.c.input.label("of_request_input"))
        source = source.outerjoin(
            analysis_rows,
            and_(
                analysis_rows.c.account_id == account_rows.c.account_id,
                analysis_rows.c.request_id == bindparam("request"),
            ),
        )
    return (
        select(*columns)
        .select_from(source)
        .where(account_rows.c.account_id == account, ~account_rows.c.deleted)
    )


_GATE = """
gate AS MATERIALIZED (
    SELECT byok_unchanged(
        :account_gate, :account, :account_version, :key_versions, :process_gate, :process_id
    ) AS unchanged
)
"""

_NOTHING_TO_REUSE = """
NOT EXISTS (
    SELECT FROM analyses AS earlier
    WHERE earlier.reuse_digest = :reuse_digest AND earlier.account_id = :account
        AND earlier.state = 'completed' AND earlier.finished_at >= :reusable_from
        AND earlier.result IS NOT NULL
)
"""

_FREE_FRESH = """
free AS (
    SELECT 1 FROM gate
    WHERE gate.unchanged AND {nothing_to_reuse}
        AND NOT EXISTS (
            SELECT FROM analyses WHERE account_id = :account AND request_id = :request
        )
)
"""

# The request is held before a credit is taken for it.
_FREE_WAITING = """
free AS (
    SELECT 1 FROM gate, analyses AS waiting
    WHERE gate.unchanged AND {nothing_to_reuse}
        AND waiting.account_id = :account AND waiting.request_id = :request
        AND waiting.state = 'waiting' AND waiting.attempt = :attempt - 1
    FOR UPDATE OF waiting
)
"""

_RESERVED = """
reserved AS (
    UPDATE credit_periods AS period SET reserved = reserved + 1 FROM free
    WHERE period.account_id = :account AND period.period_start_at = :period_start_at
        AND (
            CAST(:credits_limit AS bigint) IS NULL
            OR period.used + period.reserved < CAST(:credits_limit AS bigint)
        )
    RETURNING 1
)
"""

_BEGUN_FRESH = """
begun AS (
    INSERT INTO analyses (
        account_id, request_id, event_id, account_revision, digest, operation, provider_wanted,
        model_wanted, input, state, reason, attempt, process_id, created_at, expires_at,
        traceparent, provider, model, credential, key_id, fallback_reason, prompt_version,
        credit_period_at
    )
    SELECT
        :account, :request, :event_id, :account_revision, :digest, :operation, :provider_wanted,
        :model_wanted, :input, 'running', '', :attempt, :process_id, :created_at, :expires_at,
        :traceparent, :provider, :model, :credential, :key_id, :fallback_reason, :prompt_version,
        {period}
    FROM {source}
    RETURNING 1
)
"""

_BEGUN_WAITING = """
begun AS (
    UPDATE analyses SET
        account_revision = coalesce(account_revision, :account_revision),
        state = 'running', reason = '', due_at = NULL, attempt = :attempt,
        process_id = :process_id, provider = :provider, model = :model, credential = :credential,
        key_id = :key_id, fallback_reason = :fallback_reason, prompt_version = :prompt_version
        {period}
    FROM {source}
    WHERE account_id = :account AND request_id = :request
    RETURNING 1
)
"""

_ATTEMPT = """
INSERT INTO attempts (
    account_id, request_id, attempt, state, process_id, provider, model, credential, key_id,
    fallback_reason, started_at
)
SELECT
    :account, :request, :attempt, 'started', :process_id, :provider, :model, :credential, :key_id,
    :fallback_reason, :now
FROM begun
RETURNING attempt
"""


def _start(*, fresh: bool, reserves_credit: bool) -> TextClause:
    source = "reserved" if reserves_credit else "free"
    if fresh:
        period = ":period_start_at" if reserves_credit else "NULL"
        free, begun = _FREE_FRESH, _BEGUN_FRESH
    else:
        period = ", credit_period_at = :period_start_at" if reserves_credit else ""
        free, begun = _FREE_WAITING, _BEGUN_WAITING
    parts = [
        _GATE,
        free.format(nothing_to_reuse=_NOTHING_TO_REUSE),
        *([_RESERVED] if reserves_credit else []),
        begun.format(source=source, period=period),
    ]
    return text(f"WITH {', '.join(parts)} {_ATTEMPT}")


_START = {
    (fresh, reserves): _start(fresh=fresh, reserves_credit=reserves)
    for fresh in (True, False)
    for reserves in (True, False)
}

_FINISH = text(
    """
WITH gate AS MATERIALIZED (
    SELECT byok_unchanged(:account_gate, :account, :account_version, NULL, NULL, NULL) AS unchanged
),
running AS (
    SELECT 1 FROM gate, analyses AS request
    WHERE gate.unchanged AND request.account_id = :account AND request.request_id = :request
        AND request.state = 'running' AND request.attempt = :attempt
    FOR UPDATE OF request
),
answered AS (
    UPDATE attempts SET
        state = 'answered', outcome = 'ok', provider_request_id = :provider_request_id,
        ended_at = :now
    FROM running
    WHERE account_id = :account AND request_id = :request AND attempt = :attempt
        AND state = 'started'
    RETURNING 1
),
done AS (
    UPDATE analyses SET
        state = 'completed', reason = '', due_at = NULL, process_id = NULL, input = NULL,
        finished_at = :now, credit_period_at = NULL, answered_by = 'model',
        credential = :credential, result = CAST(:result AS json), usage = CAST(:usage AS json),
        prompt_version = :prompt_version, result_text = :result_text, reuse_digest = :reuse_digest
    FROM answered
    WHERE account_id = :account AND request_id = :request
    RETURNING 1
),
proved AS (
    UPDATE provider_keys SET last_ok_at = :now FROM done
    WHERE key_id = :key_id AND revision = :key_revision AND removed_at IS NULL
        AND (last_ok_at IS NULL OR last_ok_at < :stale)
),
sent AS (
    INSERT INTO outbox (id, kind, payload, created_at, due_at)
    SELECT row.id, row.kind, row.payload, :now, :outbox_due
    FROM done, json_to_recordset(CAST(:rows AS json)) AS row (id text, kind text, payload text)
),
settled AS (
    UPDATE credit_periods SET reserved = reserved - 1, used = used + CAST(:spent AS int) FROM done
    WHERE account_id = :account AND period_start_at = :credit_period_at
)
SELECT EXISTS (
    SELECT FROM analyses AS other
    WHERE other.account_id = :account AND other.state = 'waiting'
        AND other.reason IN ('account_busy', 'key_busy')
) AS others_wait
FROM done
"""
)
