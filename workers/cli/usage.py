"""`byok usage`: the usage card."""

import csv
import sys
from enum import IntEnum
from typing import Annotated, Any

import typer

from store import accounts
from store import usage as stored_usage
from store.usage import UsageCard
from workers.app import App
from workers.cli.account import AccountArgument, require_account
from workers.cli.console import AsJson, emit_json, open_app, out, show, table

CSV_HEADER = (
    "date",
    "operations",
    "byok_operations",
    "platform_operations",
    "tokens",
    "cost_usd",
)


class Window(IntEnum):
    """The windows of the usage card, in days."""

    WEEK = 7
    MONTH = 30
    QUARTER = 90


def usage(
    account: AccountArgument,
    *,
    days: Annotated[int, typer.Option(help="7, 30 or 90.")] = Window.MONTH,
    as_csv: Annotated[bool, typer.Option("--csv", help="Day by day, as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show an account's usage card. Example: `byok usage acme --days 7`."""
    if days not in tuple(Window):
        raise typer.BadParameter("--days takes 7, 30 or 90.")
    with open_app() as app:
        card = read_card(app, account, days)
    if as_csv:
        _write_csv(card)
    elif as_json:
        emit_json(described(account, days, card))
    else:
        show_card(account, days, card)


def read_card(app: App, account_id: str, days: int) -> UsageCard:
    """The account's card, its last day being today in the account's time zone."""
    account = require_account(app, account_id)
    with app.database.read() as connection:
        surrogate = accounts.find_surrogate(connection, account_id)
        today = account.local_date(app.effects.now_ms())
        return stored_usage.card(connection, surrogate, today, days)


def described(account: str, days: int, card: UsageCard) -> dict[str, Any]:
    """The card as `usage --json` tells it; money as a decimal string, shares from 0 to 1."""
    return {
        "account": account,
        "days": days,
        "operations": card.total.operations,
        "total_cost_usd": str(card.total.cost_usd),
        "tokens": card.total.tokens,
        "byok_share": card.byok_share,
        "provider_distribution": card.provider_distribution,
        "by_day": [
            {
                "date": day,
                "operations": sums.operations,
                "byok_operations": sums.byok_operations,
                "platform_operations": sums.platform_operations,
                "tokens": sums.tokens,
                "cost_usd": str(sums.cost_usd),
            }
            for day, sums in card.by_day.items()
        ],
    }


def show_card(account: str, days: int, card: UsageCard) -> None:
    """Print the card."""
    if not card.total.operations:
        out.print(f"{account}: no AI operation in the last {days} days.", highlight=False)
        return
    made = table(f"Usage of {account}, {card.first_day} to {card.last_day}", "", ">")
    made.add_row("operations", str(card.total.operations))
    made.add_row("total cost", f"${card.total.cost_usd:.6f}")
    made.add_row("tokens used", f"{card.total.tokens:,}")
    if card.byok_share is not None:
        made.add_row("BYOK share", f"{card.byok_share:.0%}")
    for provider, share in card.provider_distribution.items():
        made.add_row(f"on {provider}", f"{share:.0%}")
    show(made)


def _write_csv(card: UsageCard) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for day, sums in card.by_day.items():
        writer.writerow(
            (
                day,
                sums.operations,
                sums.byok_operations,
                sums.platform_operations,
                sums.tokens,
                sums.cost_usd,
            )
        )
