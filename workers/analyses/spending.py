"""Budgets: what an attempt may cost is reserved in its claim, and settled with its answer.

A cap holds for what is spent on a key, for an account whosever key pays, and by the platform's own
keys. What is reserved is the dearest outcome of the call, so that a cap is never passed, whatever
is in flight: the last cents of a budget stay unspent. A model without a known price costs nothing,
so a budget holds it back only when it is used up already.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from pydantic import BaseModel
from sqlalchemy import Connection

from events import BudgetReached, Operation, Provider
from events.analyses import AnalysisInput
from store import accounts, analyses, budgets, keys, months
from store.budgets import Budget
from workers.analyses.categories import vocabulary_parts
from workers.analyses.operations import operation_of
from workers.app import App
from workers.pricing import dearest_price
from workers.providers.port import Question

ABOUT_ALL = "byok"
"""The `subject` of an event that is about no one account."""

ENVELOPE_TOKENS = 512
"""What providers add to a question for its roles and its schema: some tens of tokens."""


def question_of(
    app: App, operation: Operation, given: AnalysisInput, account: accounts.Account, model: str
) -> Question:
    """What a provider is asked about `given`, in the account's vocabulary."""
    categories, overrides = vocabulary_parts(app, account)
    return operation_of(operation).question(
        given, model=model, categories=categories, overrides=overrides
    )


def budgets_for(
    app: App,
    connection: Connection,
    account: accounts.Account,
    own_key: keys.KeyRecord | None,
    now: int,
) -> list[Budget]:
    """The budgets that an attempt is of; without an `own_key` the platform pays."""
    local = account.local_date(now)[:7]
    found: list[Budget] = []
    if own_key is not None and own_key.budget_nano_usd is not None:
        scope = budgets.key_scope(own_key.key_id)
        found.append(Budget(scope=scope, month=local, cap_nano_usd=own_key.budget_nano_usd))
    if account.budget_nano_usd is not None:
        surrogate = accounts.surrogate_of(connection, account.account_id, app.effects.new_id)
        scope = budgets.account_scope(surrogate)
        found.append(Budget(scope=scope, month=local, cap_nano_usd=account.budget_nano_usd))
    platform = app.settings.platform_budget_usd
    if own_key is None and platform is not None:
        month = months.name(months.of_ms(now))
        cap = int(platform * accounts.NANO)
        found.append(Budget(scope=budgets.PLATFORM, month=month, cap_nano_usd=cap))
    return found


def reserve(
    app: App,
    connection: Connection,
    request: analyses.Request,
    account: accounts.Account,
    given: AnalysisInput,
    wanted: Sequence[Budget],
    provider: Provider,
    now: int,
) -> Budget | None:
    """Reserve what the request's next attempt may cost; the budget that has not as much left."""
    operation = Operation(request.operation)
    model = request.model_wanted or app.settings.model(provider, operation)
    question = question_of(app, operation, given, account, model)
    # A token is at least one byte of what is sent.
    sent = (question.system, question.user, _schema_text(question.schema))
    most = ENVELOPE_TOKENS + sum(len(part.encode()) for part in sent)
    return budgets.reserve(
        connection,
        wanted,
        account_id=request.account_id,
        request_id=request.request_id,
        attempt=request.attempt + 1,
        nano_usd=dearest_price(provider, model, most, question.max_output_tokens, now),
    )


@lru_cache(maxsize=256)
def _schema_text(schema: type[BaseModel]) -> str:
    return json.dumps(schema.model_json_schema())


def settle(
    app: App,
    connection: Connection,
    account_id: str,
    request_id: str,
    attempt: int,
    *,
    billed: tuple[str, int] | None,
) -> None:
    """Put what an attempt was billed (ledger row, nano-dollars) in the place of its reservation.

    Tells of each budget of which the soft limit is reached now.
    """
    now = app.effects.now_ms()
    for budget in budgets.settle(connection, account_id, request_id, attempt, billed=billed):
        soft = int(budget.cap_nano_usd * Decimal(str(app.settings.budget_soft_share)))
        tell_reached(app, connection, budget, account_id, "soft_limit", soft, now)


def tell_reached(
    app: App,
    connection: Connection,
    budget: Budget,
    account_id: str,
    reason: str,
    from_nano_usd: int,
    now: int,
) -> None:
    """Tell once in a month that a budget is reached, where so much of it is used."""
    standing = budgets.note_reached(connection, budget, now, from_nano_usd=from_nano_usd)
    if standing is None:
        return
    kind, _, name = budget.scope.partition(":")
    app.emit(
        connection,
        BudgetReached(
            scope=kind,
            key_id=name if kind == "key" else None,
            month=budget.month,
            budget_usd=Decimal(budget.cap_nano_usd) / accounts.NANO,
            spent_usd=Decimal(standing.used) / accounts.NANO,
            reason=reason,
        ),
        account=ABOUT_ALL if kind == budgets.PLATFORM else account_id,
    )
