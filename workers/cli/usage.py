"""`byok usage`: the usage card, and the books that it is read from."""

import csv
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from events import Operation, Provider
from store import accounts
from store import usage as stored_usage
from store.usage import Sums, UsageCard
from workers.app import App
from workers.cli import usagebooks, usagepicture
from workers.cli.account import AccountArgument, require_account
from workers.cli.console import AsJson, emit_json, open_app, out, refuse, show, table

_COUNTED = (
    "calls",
    "input_tokens",
    "cached_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "unpriced_calls",
)

CSV_HEADER = (
    "date",
    "operations",
    "byok_operations",
    "platform_operations",
    "tokens",
    "cost_usd",
    "byok_cost_usd",
    "platform_cost_usd",
    *_COUNTED,
    *(f"{provider.value}_operations" for provider in Provider),
    *(f"{operation.value}_operations" for operation in Operation),
)
"""One line a day, days without use too. New columns are added behind, none goes (docs/usage.md)."""

CSV_DETAIL_HEADER = (
    "date",
    "operation",
    "provider",
    "model",
    "credential",
    "operations",
    "tokens",
    "cost_usd",
    *_COUNTED,
)
"""One line for each day, operation, provider, model and credential that there was."""


class Window(IntEnum):
    """The windows of the usage card, in days."""

    WEEK = 7
    MONTH = 30
    QUARTER = 90


class _CardByDefault(TyperGroup):
    """`byok usage ACCOUNT` is the card; of an account that is named as a command, `… card NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["card", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(
    cls=_CardByDefault,
    help="An account's usage card (`byok usage ACCOUNT`), and the books behind it.",
    no_args_is_help=True,
    add_completion=False,
)
commands.command("rebuild")(usagebooks.rebuild)
commands.command("audit")(usagebooks.audit)
commands.command("reprice")(usagebooks.reprice)


@commands.command("card")
def card_command(
    account: AccountArgument,
    *,
    days: Annotated[int, typer.Option(help="7, 30 or 90.")] = Window.MONTH,
    as_csv: Annotated[bool, typer.Option("--csv", help="Day by day, as CSV.")] = False,
    detail: Annotated[
        bool, typer.Option("--detail", help="With --csv: by operation, model and credential too.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the card as one page to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show an account's usage card. Example: `byok usage acme --days 7`.

    Its days are the account's, by its time zone.
    """
    if days not in tuple(Window):
        raise typer.BadParameter("--days takes 7, 30 or 90.")
    if detail and not as_csv:
        raise typer.BadParameter("--detail goes with --csv.")
    if as_csv and as_json:
        raise typer.BadParameter("give one of --csv and --json.")
    with open_app() as app:
        timezone = require_account(app, account).timezone
        card = read_card(app, account, days)
    if page is not None:
        _write_page(page, account, timezone, days, card)
    if as_csv:
        _write_csv(CSV_DETAIL_HEADER, _details(card)) if detail else _write_csv(
            CSV_HEADER, _days(card)
        )
    elif as_json:
        emit_json(described(account, timezone, days, card))
    elif page is None:
        show_card(account, days, card)


def read_card(app: App, account_id: str, days: int) -> UsageCard:
    """The account's card, its last day being today in the account's time zone."""
    account = require_account(app, account_id)
    with app.database.read() as connection:
        surrogate = accounts.find_surrogate(connection, account_id)
        today = account.local_date(app.effects.now_ms())
        return stored_usage.card(connection, surrogate, today, days)


def described(account: str, timezone: str, days: int, card: UsageCard) -> dict[str, Any]:
    """The card as `usage --json` tells it; money as a decimal string, shares from 0 to 1."""
    return {
        "account": account,
        "days": days,
        "first_day": card.first_day,
        "last_day": card.last_day,
        "timezone": timezone,
        "operations": card.total.operations,
        "total_cost_usd": str(card.total.cost_usd),
        "tokens": card.total.tokens,
        "cached_input_share": card.total.cached_share,
        "byok_share": card.byok_share,
        "provider_distribution": card.provider_distribution,
        **{name: getattr(card.total, name) for name in _COUNTED},
        "by_operation": [
            {"operation": name, **_sums(sums)} for name, sums in card.by_operation.items()
        ],
        "by_model": [
            {"provider": provider, "model": model, **_sums(sums)}
            for (provider, model), sums in card.by_model.items()
        ],
        "by_credential": [
            {"credential": name, **_sums(sums)} for name, sums in card.by_credential.items()
        ],
        "by_day": [
            {
                "date": day,
                "operations": sums.operations,
                "byok_operations": sums.byok_operations,
                "platform_operations": sums.platform_operations,
                "tokens": sums.tokens,
                "cost_usd": str(sums.cost_usd),
                "byok_cost_usd": str(stored_usage.usd(sums.byok_cost_nano_usd)),
                "platform_cost_usd": str(stored_usage.usd(sums.platform_cost_nano_usd)),
            }
            for day, sums in card.by_day.items()
        ],
    }


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "operations": sums.operations,
        "calls": sums.calls,
        "tokens": sums.tokens,
        "cost_usd": str(sums.cost_usd),
        "unpriced_calls": sums.unpriced_calls,
    }


def show_card(account: str, days: int, card: UsageCard) -> None:
    """Print the card: its figures, a bar a day split by credential, who ran what."""
    if card.empty:
        out.print(f"{account}: no AI operation in the last {days} days.", highlight=False)
        return
    made = table(f"Usage of {account}, {card.first_day} to {card.last_day}", "", ">")
    made.add_row("operations", str(card.total.operations))
    made.add_row("total cost", f"${card.total.cost_usd:.6f}")
    made.add_row("tokens used", f"{card.total.tokens:,}")
    made.add_row("input from cache", f"{card.total.cached_share:.0%}")
    if card.byok_share is not None:
        made.add_row("BYOK share", f"{card.byok_share:.0%}")
    for provider, share in card.provider_distribution.items():
        made.add_row(f"on {provider}", f"{share:.0%}")
    if card.total.unpriced_calls:
        made.add_row("calls without a known price", str(card.total.unpriced_calls))
    show(made)
    show(usagepicture.parts_table(card))
    out.print(usagepicture.days_picture(card), highlight=False)
    out.print(usagepicture.distribution(card), highlight=False)


def _days(card: UsageCard) -> Iterator[tuple[object, ...]]:
    ran: dict[tuple[str, str], int] = {}
    for (day, operation, provider, _, _), sums in card.by_part.items():
        for name in (provider, operation):
            ran[day, name] = ran.get((day, name), 0) + sums.operations
    for day, sums in card.by_day.items():
        yield (
            day,
            sums.operations,
            sums.byok_operations,
            sums.platform_operations,
            sums.tokens,
            sums.cost_usd,
            stored_usage.usd(sums.byok_cost_nano_usd),
            stored_usage.usd(sums.platform_cost_nano_usd),
            *(getattr(sums, name) for name in _COUNTED),
            *(ran.get((day, name.value), 0) for name in (*Provider, *Operation)),
        )


def _details(card: UsageCard) -> Iterator[tuple[object, ...]]:
    for part, sums in card.by_part.items():
        yield (
            *part,
            sums.operations,
            sums.tokens,
            sums.cost_usd,
            *(getattr(sums, name) for name in _COUNTED),
        )


def _write_csv(header: tuple[str, ...], lines: Iterator[tuple[object, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)


def _write_page(path: Path, account: str, timezone: str, days: int, card: UsageCard) -> None:
    # The library of the charts takes 0.2 s to load.
    from workers.cli.usagepage import page  # noqa: PLC0415

    try:
        path.write_text(page(account, timezone, days, card), encoding="utf-8")
    except OSError as error:
        refuse(f"{path} cannot be written ({error.strerror}).")
