"""Analysis requests and their attempts.

A request is `waiting` (with the time when it is due), `running` (one attempt is under way), or in
one of the terminal states `completed`, `failed`, `skipped`. The attempt's number fences its
completion: whoever holds an older number changes no result.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from store.schema import accounts, analyses, attempts, processes
from store.statements import insert_ignore, insert_into

WAITING = "waiting"
RUNNING = "running"
COMPLETED = "completed"
FAILED = "failed"
SKIPPED = "skipped"
TERMINAL = (COMPLETED, FAILED, SKIPPED)

AWAITING_ACCOUNT = "account"
"""Why a request waits whose account is not known yet."""

AWAITING_VERDICT = "key_pending"
"""Why a request waits whose key is being validated."""

ACCOUNT_BUSY = "account_busy"
"""Why a request waits whose account has its share under way, or whose turn has not come."""

KEY_BUSY = "key_busy"
"""Why a request waits whose key has as many calls under way as it bears."""

TURN_WAITS = (ACCOUNT_BUSY, KEY_BUSY)
"""The reasons for waiting that end when another request of the account has ended."""

KEY_WAITS = (AWAITING_VERDICT, "rate_limited", KEY_BUSY)
"""The reasons for waiting that a change of the account's keys may end."""

HELD = "unknown_attempt_held"
"""Why a request waits whose call was lost and which is not to be run again by itself."""

RESEND_SECONDS = 30
"""A due request that was sent out and not claimed is sent out again after this."""

TURN_SECONDS = 10
"""A request that waits for its account's turn becomes due after this, should nobody have run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """A request as it is first written."""

    account_id: str
    request_id: str
    event_id: str
    digest: bytes
    operation: str
    provider_wanted: str
    model_wanted: str | None
    input: bytes
    created_at: int
    expires_at: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it stands, without its input and its text. Times are Unix ms."""

    account_id: str
    request_id: str
    event_id: str
    account_revision: int | None
    digest: bytes
    operation: str
    provider_wanted: str
    model_wanted: str | None
    state: str
    reason: str
    due_at: int | None
    attempt: int
    setbacks: int
    bad_answers: int
    refusals: int
    process_id: str | None
    created_at: int
    expires_at: int
    finished_at: int | None
    credit_period_at: int | None
    budget_held: bool
    credential: str | None
    key_id: str | None
    provider: str | None
    model: str | None
    answered_by: str | None
    fallback_reason: str | None
    prompt_version: str | None
    result: Mapping[str, Any] | None
    usage: Mapping[str, Any] | None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reusable:
    """A result that another request may be given; `text` is its free text under the vault."""

    request_id: str
    result: Mapping[str, Any]
    text: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call of a provider for a request."""

    attempt: int
    state: str
    outcome: str | None
    process_id: str
    provider: str
    model: str
    credential: str
    key_id: str | None
    fallback_reason: str | None
    started_at: int
    ended_at: int | None
    provider_request_id: str | None


def accept(connection: Connection, request: NewRequest) -> bool:
    """Write a request that is due at once; false where its id is known already.

    It belongs to the life that the account is in now; one that is not known yet has none.
    """
    life = _life(request.account_id).scalar_subquery()
    return insert_ignore(connection, analyses, {**_fresh(request), "account_revision": life})


def accept_held(connection: Connection, requests: Sequence[NewRequest], due_at: int) -> set[str]:
    """Write requests of one account that wait for its turn; the ids that were not known yet."""
    life = connection.execute(_life(requests[0].account_id)).scalar_one_or_none()
    rows = [
        {
            **_fresh(request),
            "account_revision": life,
            "reason": ACCOUNT_BUSY,
            "due_at": min(due_at, request.expires_at),
        }
        for request in requests
    ]
    statement = insert_into(connection, analyses).on_conflict_do_nothing()
    written = connection.execute(statement.returning(analyses.c.request_id), rows)
    return set(written.scalars())


def note_life(connection: Connection, request: Request, account_revision: int) -> None:
    """A request that came before its account is of the life in which it was first looked at."""
    _update(connection, request, account_revision=account_revision)


def find(
    connection: Connection, account_id: str, request_id: str, *, lock: bool = False
) -> Request | None:
    """One request; with `lock` it is held for a change until the transaction ends."""
    statement = _REQUESTS.where(
        analyses.c.account_id == account_id, analyses.c.request_id == request_id
    )
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    return None if row is None else _request(row)


def find_many(connection: Connection, account_id: str, request_ids: Sequence[str]) -> list[Request]:
    """The requests of an account among `request_ids`, in no order."""
    return [
        _request(row)
        for row in connection.execute(
            _REQUESTS.where(
                analyses.c.account_id == account_id, analyses.c.request_id.in_(request_ids)
            )
        )
    ]


def sealed_input(connection: Connection, account_id: str, request_id: str) -> bytes | None:
    """The request's input under the vault, or `None` where it is erased."""
    found: bytes | None = connection.execute(
        select(analyses.c.input).where(
            analyses.c.account_id == account_id, analyses.c.request_id == request_id
        )
    ).scalar_one_or_none()
    return found


def result_texts(
    connection: Connection, account_id: str, request_ids: Sequence[str]
) -> dict[str, bytes]:
    """The free texts of results, under the vault, by request; only of those that have one."""
    rows = connection.execute(
        select(analyses.c.request_id, analyses.c.result_text).where(
            analyses.c.account_id == account_id,
            analyses.c.request_id.in_(request_ids),
            analyses.c.result_text.is_not(None),
        )
    )
    return {row.request_id: row.result_text for row in rows}


def find_reusable(
    connection: Connection, account_id: str, digest: bytes, finished_from: int
) -> Reusable | None:
    """The account's newest result for `digest` that was finished at `finished_from` or later."""
    row = connection.execute(
        select(analyses.c.request_id, analyses.c.result, analyses.c.result_text)
        .where(
            analyses.c.reuse_digest == digest,
            analyses.c.account_id == account_id,
            analyses.c.state == COMPLETED,
            analyses.c.finished_at >= finished_from,
            # An erased one has none.
            analyses.c.result.is_not(None),
        )
        .order_by(analyses.c.finished_at.desc())
        .limit(1)
    ).one_or_none()
    return row and Reusable(request_id=row.request_id, result=row.result, text=row.result_text)


def park(
    connection: Connection,
    request: Request,
    *,
    reason: str,
    due_at: int,
    setback: bool = False,
    bad_answer: bool = False,
    refusal: bool = False,
    holds_credit: bool = False,
) -> None:
    """Let a request wait until `due_at` (Unix ms).

    With `holds_credit` it keeps the credit it has reserved, if any.
    """
    _update(
        connection,
        request,
        state=WAITING,
        reason=reason,
        due_at=due_at,
        process_id=None,
        credit_period_at=request.credit_period_at if holds_credit else None,
        setbacks=analyses.c.setbacks + (1 if setback else 0),
        bad_answers=analyses.c.bad_answers + (1 if bad_answer else 0),
        refusals=analyses.c.refusals + (1 if refusal else 0),
    )


def claim(
    connection: Connection,
    request: Request,
    *,
    process_id: str,
    provider: str,
    model: str,
    credential: str,
    key_id: str | None,
    fallback_reason: str | None,
    credit_period_at: int | None,
    budget_held: bool,
    prompt_version: str,
    now: int,
) -> int:
    """Start the next attempt of a waiting request for `process_id`; its number."""
    attempt = request.attempt + 1
    _update(
        connection,
        request,
        state=RUNNING,
        reason="",
        due_at=None,
        attempt=attempt,
        process_id=process_id,
        provider=provider,
        model=model,
        credential=credential,
        key_id=key_id,
        fallback_reason=fallback_reason,
        credit_period_at=credit_period_at,
        budget_held=request.budget_held or budget_held,
        prompt_version=prompt_version,
    )
    connection.execute(
        insert(attempts).values(
            account_id=request.account_id,
            request_id=request.request_id,
            attempt=attempt,
            state="started",
            process_id=process_id,
            provider=provider,
            model=model,
            credential=credential,
            key_id=key_id,
            fallback_reason=fallback_reason,
            started_at=now,
        )
    )
    return attempt


def end_attempt(
    connection: Connection,
    account_id: str,
    request_id: str,
    attempt: int,
    *,
    state: str,
    outcome: str,
    provider_request_id: str | None,
    now: int,
    late: bool = True,
) -> bool:
    """End an attempt as `answered`, `failed` or `unknown`; false where it was ended before.

    It is `unknown` where the call was sent and its answer was lost, so that it may have been
    billed. One that was given up as `unknown` is still ended by a `late` answer.
    """
    return bool(
        connection.execute(
            update(attempts)
            .where(
                attempts.c.account_id == account_id,
                attempts.c.request_id == request_id,
                attempts.c.attempt == attempt,
                attempts.c.state.in_(("started", "unknown") if late else ("started",)),
            )
            .values(
                state=state,
                outcome=outcome,
                provider_request_id=provider_request_id,
                ended_at=now,
            )
        ).rowcount
    )


def finish(
    connection: Connection,
    request: Request,
    *,
    state: str,
    reason: str,
    now: int,
    answered_by: str | None = None,
    credential: str | None = None,
    result: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
    prompt_version: str | None = None,
    result_text: bytes | None = None,
    reuse_digest: bytes | None = None,
) -> None:
    """End a request in a terminal state; its input is erased.

    `result_text` is the result's free text, under the vault.
    """
    _update(
        connection,
        request,
        state=state,
        reason=reason,
        due_at=None,
        process_id=None,
        input=None,
        finished_at=now,
        credit_period_at=None,
        answered_by=answered_by,
        credential=credential or request.credential,
        result=result,
        usage=usage,
        prompt_version=prompt_version or request.prompt_version,
        result_text=result_text,
        reuse_digest=reuse_digest,
    )


def any_due(connection: Connection, now: int) -> bool:
    """Whether `take_due` would find anything; a plain read."""
    found = connection.execute(select(analyses.c.due_at).where(analyses.c.due_at <= now).limit(1))
    return found.first() is not None


def take_due(connection: Connection, now: int, limit: int, share: int) -> list[tuple[str, str]]:
    """Waiting requests that are due, as (account, request), put off by `RESEND_SECONDS`.

    Of the `limit` that have been due for longest, at most `share` of an account are taken, and all
    that have expired. The others wait for their account's turn from here: sent out together they
    would only find it busy, and be ahead of other accounts' mail.
    """
    due = connection.execute(
        select(analyses.c.account_id, analyses.c.request_id, analyses.c.expires_at)
        .where(analyses.c.due_at <= now)
        .order_by(analyses.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    taken: list[tuple[str, str]] = []
    held: list[dict[str, Any]] = []
    turns: Counter[str] = Counter()
    for account_id, request_id, expires_at in due:
        turns[account_id] += expires_at > now
        if expires_at <= now or turns[account_id] <= share:
            taken.append((account_id, request_id))
        else:
            due_at = min(now + TURN_SECONDS * 1000, expires_at)
            held.append({"account": account_id, "request": request_id, "at": due_at})
    if taken:
        again = now + RESEND_SECONDS * 1000
        connection.execute(
            _PUT_OFF, [{"account": account, "request": one, "at": again} for account, one in taken]
        )
    if held:
        connection.execute(_HOLD, held)
    return taken


def held(
    connection: Connection,
    account_id: str,
    reasons: Sequence[str],
    limit: int,
    beside: Collection[str] = (),
) -> list[tuple[str, str]]:
    """The account's requests that wait for one of `reasons`, at most `limit`, the oldest first.

    Each with the provider that it wants; none of those that want one of `beside`.
    """
    given = {"account": account_id, "most": limit}
    rows = connection.execute(_held(tuple(reasons), frozenset(beside)), given)
    oldest = sorted(tuple(row) for row in rows)[:limit]
    return [(request_id, wanted) for _, request_id, wanted in oldest]


@cache
def _held(reasons: tuple[str, ...], beside: frozenset[str]) -> CompoundSelect[Any]:
    # One reason at a time: so the index gives them in order, however many wait.
    oldest = (
        select(analyses.c.created_at, analyses.c.request_id, analyses.c.provider_wanted)
        .where(
            analyses.c.account_id == bindparam("account"),
            analyses.c.state == WAITING,
            analyses.c.reason == reason,
            *([analyses.c.provider_wanted.not_in(sorted(beside))] if beside else []),
        )
        .order_by(analyses.c.created_at, analyses.c.request_id)
        .limit(bindparam("most"))
        .subquery()
        for reason in reasons
    )
    return union_all(*(select(one) for one in oldest))


def lock_waiting(connection: Connection, account_id: str, limit: int) -> list[Request]:
    """Some of the account's waiting requests, held for a change; none that others look at."""
    rows = connection.execute(
        _REQUESTS.where(analyses.c.account_id == account_id, analyses.c.state == WAITING)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_request(row) for row in rows]


def wake(connection: Connection, account_id: str, reasons: Sequence[str], now: int) -> int:
    """Make the account's requests that wait for one of `reasons` due now; how many."""
    return connection.execute(
        update(analyses)
        .where(
            analyses.c.account_id == account_id,
            analyses.c.state == WAITING,
            analyses.c.reason.in_(reasons),
        )
        .values(due_at=now)
    ).rowcount


def orphans(connection: Connection, started_before: int, limit: int) -> list[tuple[str, str]]:
    """Running requests, as (account, request), whose attempt nobody will complete.

    That is so where its process holds no lease any more, or where it was started before
    `started_before` (Unix ms), which is longer ago than any call takes.
    """
    rows = connection.execute(
        select(analyses.c.account_id, analyses.c.request_id)
        .select_from(
            analyses.join(
                attempts,
                and_(
                    attempts.c.account_id == analyses.c.account_id,
                    attempts.c.request_id == analyses.c.request_id,
                    attempts.c.attempt == analyses.c.attempt,
                ),
            ).outerjoin(processes, processes.c.process_id == analyses.c.process_id)
        )
        .where(
            analyses.c.state == RUNNING,
            or_(
                processes.c.process_id.is_(None),
                processes.c.stopped_at.is_not(None),
                attempts.c.started_at < started_before,
            ),
        )
        .limit(limit)
    )
    return [(account_id, request_id) for account_id, request_id in rows]


def any_lost_attempt(connection: Connection, started_before: int) -> bool:
    """Whether `give_up_lost_attempts` would find anything; a plain read."""
    return bool(_lost_attempts(connection, started_before, 1))


def give_up_lost_attempts(connection: Connection, started_before: int, now: int, limit: int) -> int:
    """Make attempts `unknown` that nobody will end and that no running request waits for; how many.

    They are billed validations, and calls whose request ended while they were under way (its
    account was deleted, say). Nobody will end one whose process holds no lease any more, or that
    was started before `started_before` (Unix ms), which is longer ago than any call takes.
    """
    lost = _lost_attempts(connection, started_before, limit)
    if not lost:
        return 0
    return connection.execute(
        update(attempts)
        .where(
            tuple_(attempts.c.account_id, attempts.c.request_id, attempts.c.attempt).in_(lost),
            attempts.c.state == "started",
        )
        .values(state="unknown", outcome="worker_lost", ended_at=now)
    ).rowcount


def _lost_attempts(
    connection: Connection, started_before: int, limit: int
) -> list[tuple[str, str, int]]:
    run = and_(
        analyses.c.account_id == attempts.c.account_id,
        analyses.c.request_id == attempts.c.request_id,
        analyses.c.attempt == attempts.c.attempt,
        analyses.c.state == RUNNING,
    )
    rows = connection.execute(
        select(attempts.c.account_id, attempts.c.request_id, attempts.c.attempt)
        .select_from(
            attempts.outerjoin(analyses, run).outerjoin(
                processes, processes.c.process_id == attempts.c.process_id
            )
        )
        .where(
            attempts.c.state == "started",
            analyses.c.request_id.is_(None),
            or_(
                processes.c.process_id.is_(None),
                processes.c.stopped_at.is_not(None),
                attempts.c.started_at < started_before,
            ),
        )
        .limit(limit)
    )
    return [(account_id, request_id, attempt) for account_id, request_id, attempt in rows]


def give_up_attempt(connection: Connection, request: Request, outcome: str, now: int) -> None:
    """Make the current attempt of a request `unknown`: nobody will say how it ended."""
    connection.execute(
        update(attempts)
        .where(
            attempts.c.account_id == request.account_id,
            attempts.c.request_id == request.request_id,
            attempts.c.attempt == request.attempt,
            attempts.c.state == "started",
        )
        .values(state="unknown", outcome=outcome, ended_at=now)
    )


def open_requests(connection: Connection, account_id: str) -> list[Request]:
    """The account's requests that have not ended, held for a change."""
    rows = connection.execute(
        _REQUESTS.where(
            analyses.c.account_id == account_id, analyses.c.state.in_((WAITING, RUNNING))
        )
        .order_by(analyses.c.request_id)
        .with_for_update()
    )
    return [_request(row) for row in rows]


def unknown_count(connection: Connection, account_id: str, request_id: str) -> int:
    """How many attempts of a request were given up without knowing whether they were answered."""
    return connection.execute(
        select(func.count()).where(
            attempts.c.account_id == account_id,
            attempts.c.request_id == request_id,
            attempts.c.state == "unknown",
        )
    ).scalar_one()


def attempts_of(connection: Connection, account_id: str, request_id: str) -> list[Attempt]:
    """The attempts of a request, in order."""
    rows = connection.execute(
        select(*(c for c in attempts.c if c.name not in ("account_id", "request_id")))
        .where(attempts.c.account_id == account_id, attempts.c.request_id == request_id)
        .order_by(attempts.c.attempt)
    )
    return [Attempt(**row._mapping) for row in rows]


def unknown_attempts(connection: Connection) -> list[Row[Any]]:
    """All attempts whose answer was lost, for reconciling with the provider's bill."""
    return list(
        connection.execute(
            select(attempts).where(attempts.c.state == "unknown").order_by(attempts.c.started_at)
        )
    )


def input_purpose(request_id: str) -> str:
    """What the input of a request is bound to under the vault."""
    return f"input:{request_id}"


def text_purpose(request_id: str) -> str:
    """What the free text of a request's result is bound to under the vault."""
    return f"result:{request_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted:
    """What a request has under the vault, and what it is bound to there."""

    request_id: str
    column: str
    purpose: str
    content: bytes = field(repr=False)


def encrypted_of(connection: Connection, account_id: str) -> list[Encrypted]:
    """What an account's requests have under the vault, held for a change."""
    purposes = {"input": input_purpose, "result_text": text_purpose}
    rows = connection.execute(
        select(analyses.c.request_id, analyses.c.input, analyses.c.result_text)
        .where(
            analyses.c.account_id == account_id,
            or_(analyses.c.input.is_not(None), analyses.c.result_text.is_not(None)),
        )
        .order_by(analyses.c.request_id)
        .with_for_update()
    ).mappings()
    return [
        Encrypted(
            request_id=row["request_id"],
            column=column,
            purpose=purpose(row["request_id"]),
            content=row[column],
        )
        for row in rows
        for column, purpose in purposes.items()
        if row[column] is not None
    ]


def put_under_another_key(
    connection: Connection, account_id: str, encrypted: Encrypted, content: bytes
) -> None:
    """Write what a request has under the vault anew."""
    connection.execute(
        update(analyses)
        .where(analyses.c.account_id == account_id, analyses.c.request_id == encrypted.request_id)
        .values({encrypted.column: content})
    )


def forget_digests(connection: Connection, account_id: str) -> None:
    """An account's digests tell nothing any more: the data key that they were made with is gone."""
    connection.execute(
        update(analyses)
        .where(analyses.c.account_id == account_id)
        .values(digest=b"", reuse_digest=None)
    )


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """How many requests have not ended, by (state, reason)."""
    rows = connection.execute(
        select(analyses.c.state, analyses.c.reason, func.count())
        .where(analyses.c.state.in_((WAITING, RUNNING)))
        .group_by(analyses.c.state, analyses.c.reason)
    )
    return {(state, reason): count for state, reason, count in rows}


def _life(account_id: str) -> Select[tuple[int]]:
    return select(accounts.c.revision).where(
        accounts.c.account_id == account_id, ~accounts.c.deleted
    )


def _fresh(request: NewRequest) -> dict[str, Any]:
    return {
        **{name: getattr(request, name) for name in NewRequest.__slots__},
        "state": WAITING,
        "reason": "",
        "due_at": request.created_at,
    }


def _update(connection: Connection, request: Request, **values: Any) -> None:
    connection.execute(
        update(analyses)
        .where(
            analyses.c.account_id == request.account_id,
            analyses.c.request_id == request.request_id,
        )
        .values(**values)
    )


_ONE_WAITING = update(analyses).where(
    analyses.c.account_id == bindparam("account"),
    analyses.c.request_id == bindparam("request"),
    analyses.c.state == WAITING,
)
_PUT_OFF = _ONE_WAITING.values(due_at=bindparam("at"))
_HOLD = _ONE_WAITING.values(due_at=bindparam("at"), reason=ACCOUNT_BUSY)

_UNREAD = ("input", "result_text", "reuse_digest")
"""What is large, or asked for by itself."""

_REQUESTS = select(*(column for column in analyses.c if column.name not in _UNREAD))


def _request(row: Row[Any]) -> Request:
    return Request(**row._mapping)
