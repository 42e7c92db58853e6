"""`byok account`: what the system of record says of an account, said by hand."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from sqlalchemy import Connection

from events import (
    AccountDeleted,
    AccountUpdated,
    CategoryOverride,
    CreditPeriod,
    CustomCategory,
    PlanStatus,
)
from store import accounts, budgets, credits, erasure, keys
from workers.app import App
from workers.cli.console import (
    AsJson,
    Timeout,
    emit_json,
    open_app,
    out,
    refuse,
    show,
    table,
    wait_for,
)

commands = typer.Typer(no_args_is_help=True, help="Accounts: plan, consent, credits.")

PLANS = ("free", "starter", "pro", "business", "enterprise", "lifetime")

_ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
"""As `events.envelope.Identifier`."""


def _an_account_id(given: str) -> str:
    if not _ACCOUNT_ID.fullmatch(given):
        raise typer.BadParameter(
            "that is no account's id: it has 128 characters at most, of letters, digits and "
            "._:@+-, and begins with a letter or digit."
        )
    return given


AccountArgument = Annotated[str, typer.Argument(help="The account's id.", callback=_an_account_id)]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", metavar="DOLLARS|none", help="The cap for a calendar month."),
]


@commands.command("set")
def set_account(
    account: AccountArgument,
    *,
    plan: Annotated[str, typer.Option(help=f"{', '.join(PLANS)}.")],
    consent: Annotated[
        bool | None,
        typer.Option(
            "--consent/--no-consent",
            help="Consent to AI; off for a new account.",
        ),
    ] = None,
    credits_left: Annotated[
        str | None,
        typer.Option(
            "--credits",
            metavar="N|unlimited",
            help="The allowance; 0 for a new account.",
        ),
    ] = None,
    budget: BudgetOption = None,
    timezone: Annotated[str | None, typer.Option(help="IANA name; UTC for a new account.")] = None,
    categories: Annotated[
        Path | None, typer.Option(help="A JSON file: {custom_categories, category_overrides}.")
    ] = None,
    status: Annotated[PlanStatus, typer.Option(help="The status of the plan.")] = (
        PlanStatus.ACTIVE
    ),
    timeout: Timeout = 10,
    as_json: AsJson = False,
) -> None:
    """Publish an account's state and wait until the workers have it.

    Example: `byok account set acme --plan business --consent --credits 100`. Options that
    are not given stay as they are.
    """
    with open_app() as app:
        _require_plan(app, plan)
        with app.database.read() as connection:
            known = accounts.find(connection, account)
            revision = next_revision(app, account)
        custom, overrides = _categories(categories, known)
        try:
            data = AccountUpdated(
                revision=revision,
                plan=plan,
                plan_status=status,
                ai_consent=consent if consent is not None else bool(known and known.ai_consent),
                credits=_credits(credits_left, known),
                credit_period=_period(known, app.effects.now_ms()),
                budget_usd=_budget(budget, known),
                timezone=timezone or (known.timezone if known else "UTC"),
                custom_categories=custom,
                category_overrides=overrides,
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            told = first["msg"].removeprefix("Value error, ")
            refuse(f"The account's {'.'.join(map(str, first['loc']))} is wrong: {told}.")
        app.publisher.publish(data, account=account)

        def applied() -> bool:
            with app.database.read() as connection:
                return accounts.highest_revision(connection, account) >= revision

        wait_for(app, "the account's update", timeout, applied)
        _show(app, account, as_json=as_json)


@commands.command("show")
def show_account(account: AccountArgument, *, as_json: AsJson = False) -> None:
    """Show an account. Example: `byok account show acme --json`."""
    with open_app() as app:
        _show(app, account, as_json=as_json)


@commands.command()
def delete(account: AccountArgument, *, timeout: Timeout = 10, as_json: AsJson = False) -> None:
    """Delete an account: keys, results and personal data; prints what was destroyed.

    Example: `byok account delete acme --json`. The ledger stays, under a surrogate that can
    no longer be traced to the account.
    """
    with open_app() as app:
        require_account(app, account)
        revision = next_revision(app, account)
        app.publisher.publish(AccountDeleted(revision=revision), account=account)

        def evidence() -> erasure.Evidence | None:
            with app.database.read() as connection:
                return erasure.find(connection, account, revision)

        wait_for(app, "the deletion", timeout, lambda: evidence() is not None)
        found = evidence()
        with app.database.read() as connection:
            left = erasure.left(connection, account)
    if found is None:
        refuse(f"The evidence of the deletion of {account!r} is gone.")
    _tell_destroyed(account, found, left, as_json=as_json)


def _tell_destroyed(
    account: str, evidence: erasure.Evidence, left: dict[str, int], *, as_json: bool
) -> None:
    told = {
        "account": account,
        "deleted": True,
        "at": _moment(evidence.at).isoformat(),
        "revision": evidence.revision,
        "event_id": evidence.event_id,
        "source": evidence.source,
        "destroyed": evidence.destroyed,
        "left": left,
    }
    if as_json:
        emit_json(told)
        return
    made = table(f"Destroyed of {account}", "", ">")
    keys_gone = evidence.destroyed["keys"]
    made.add_row("keys", str(len(keys_gone)))
    for key_id in keys_gone:
        made.add_row(f"  {key_id}", "")
    for name, count in evidence.destroyed.items():
        if isinstance(count, int):
            made.add_row(name.replace("_", " "), str(count))
    for name, count in evidence.destroyed["personal_data"].items():
        made.add_row(f"personal data: {name.replace('_', ' ')}", str(count))
    made.add_row("left of all this", str(sum(left.values())))
    show(made)


def next_revision(app: App, account: str) -> int:
    """A revision above all that the store has seen of the account."""
    with app.database.read() as connection:
        return 1 + max(
            accounts.highest_revision(connection, account),
            keys.highest_revision(connection, account),
        )


def require_account(app: App, account: str) -> accounts.Account:
    """The account, or a refusal that says how to make it known."""
    with app.database.read() as connection:
        found = accounts.find(connection, account)
    if found is None:
        refuse(f"The account {account!r} is not known: run `byok account set {account} --plan …`.")
    return found


def _require_plan(app: App, plan: str) -> None:
    # An event may name any plan. A person who mistypes one would switch the account's key off.
    known = dict.fromkeys((*PLANS, *app.settings.plans, *app.settings.category_plans))
    if plan not in known:
        raise typer.BadParameter(
            f"there is no plan of that name: take one of {', '.join(known)}, or name it in "
            "BYOK_PLANS or BYOK_CATEGORY_PLANS."
        )


def _show(app: App, account_id: str, *, as_json: bool) -> None:
    account = require_account(app, account_id)
    with app.database.read() as connection:
        used, reserved = credits.standing(connection, account)
        spent = _spent(app, connection, account)
    shown: dict[str, Any] = {
        "account": account.account_id,
        "revision": account.revision,
        "plan": account.plan,
        "plan_status": account.plan_status,
        "byok_included": app.includes_byok(account.plan, account.plan_status),
        "ai_consent": account.ai_consent,
        "credits": account.credits_limit,
        "credits_used": used,
        "credits_reserved": reserved,
        "budget_usd": _dollars(account.budget_nano_usd),
        "spent_this_month_usd": _dollars(spent),
        "timezone": account.timezone,
        "custom_categories": len(account.custom_categories),
    }
    if as_json:
        emit_json(shown)
        return
    made = table(f"Account {account_id}", "", "")
    for name, value in shown.items():
        text = "unlimited" if name == "credits" and value is None else str(value)
        if name == "budget_usd" and value is None:
            text = "none"
        made.add_row(name.replace("_", " "), text)
    show(made)
    if not account.ai_consent:
        out.print("AI consent is off: nothing is sent to a provider.", highlight=False)


def _spent(app: App, connection: Connection, account: accounts.Account) -> int:
    """What the account has spent in its calendar month, in nano-dollars."""
    surrogate = accounts.find_surrogate(connection, account.account_id)
    if surrogate is None:
        return 0
    month = account.local_date(app.effects.now_ms())[:7]
    return budgets.standing(connection, budgets.account_scope(surrogate), month).used


def _dollars(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else str(Decimal(nano_usd) / accounts.NANO)


def _credits(given: str | None, known: accounts.Account | None) -> int | None:
    if given is None:
        return known.credits_limit if known else 0
    if given == "unlimited":
        return None
    if not given.isdecimal():
        raise typer.BadParameter("--credits takes a number or `unlimited`.")
    return int(given)


def read_budget(given: str | None) -> Decimal | None:
    """The cap that was given, in dollars; `None` for none."""
    if given is None or given == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,2})?", given):
        raise typer.BadParameter("--budget takes dollars and cents (12.50), or `none`.")
    return Decimal(given)


def _budget(given: str | None, known: accounts.Account | None) -> Decimal | None:
    if given is None and known is not None and known.budget_nano_usd is not None:
        return Decimal(known.budget_nano_usd) / accounts.NANO
    return read_budget(given)


def _period(known: accounts.Account | None, now_ms: int) -> CreditPeriod:
    if known is not None and known.period_start_at <= now_ms < known.period_end_at:
        return CreditPeriod(start=_moment(known.period_start_at), end=_moment(known.period_end_at))
    today = _moment(now_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return CreditPeriod(start=today, end=(today + timedelta(days=32)).replace(day=1))


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def _categories(
    file: Path | None, known: accounts.Account | None
) -> tuple[tuple[CustomCategory, ...], tuple[CategoryOverride, ...]]:
    if file is None:
        custom: Any = known.custom_categories if known else ()
        overrides: Any = known.category_overrides if known else ()
    else:
        try:
            fields = json.loads(file.read_text())
            custom = fields.get("custom_categories", ())
            overrides = fields.get("category_overrides", ())
        except (OSError, ValueError, AttributeError):
            refuse(f"{file} is not a readable JSON object with custom_categories.")
    try:
        return (
            tuple(CustomCategory.model_validate(item) for item in custom),
            tuple(CategoryOverride.model_validate(item) for item in overrides),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        refuse(f"A category's {'.'.join(map(str, first['loc']))} is wrong: {first['msg']}.")
