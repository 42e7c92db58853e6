"""The usage card as a picture in a terminal; readable without colours too."""

from rich.table import Table
from rich.text import Text

from store.usage import Sums, UsageCard
from workers.cli.console import table

HEIGHT = 8
"""Lines of the tallest bar."""

WIDTH = 90
"""Columns of all bars together: one for each day of the longest window."""

BAR_WIDTH = 40

_OWN, _PLATFORM, _UNPAID = ("█", "green"), ("▒", "cyan"), ("░", "bright_black")
"""How each credential is drawn: whoever sees no colour sees the shade."""


def days_picture(card: UsageCard) -> Text:
    """A bar a day, from below: on own keys, on the platform's, without a call."""
    most = max((sums.operations for sums in card.by_day.values()), default=0) or 1
    each = max(1, WIDTH // len(card.by_day))
    drawn = [_bar(sums, most) for sums in card.by_day.values()]
    label = len(str(most))
    picture = Text("Operations a day\n")
    for line in reversed(range(HEIGHT)):
        picture.append(f"{most if line == HEIGHT - 1 else '':>{label}} ")
        for bar in drawn:
            if line < len(bar):
                glyph, style = bar[line]
                # A gap between the bars, where there is room for one.
                picture.append((glyph * max(1, each - 1)).ljust(each), style)
            else:
                picture.append(" " * each)
        picture.append("\n")
    gap = each * len(card.by_day) - len(card.first_day)
    picture.append(f"{'':>{label}} {card.first_day}{card.last_day:>{max(gap, 11)}}\n")
    for (glyph, style), name in ((_OWN, "own keys"), (_PLATFORM, "platform"), (_UNPAID, "no call")):
        picture.append(f"{glyph} ", style).append(f"{name}   ")
    picture.append("\n")
    return picture


def _bar(sums: Sums, most: int) -> list[tuple[str, str]]:
    """The cells of a day's bar from below; one at least where there was an operation."""
    lines = -(-sums.operations * HEIGHT // most)
    cells: list[tuple[str, str]] = []
    for line in range(lines):
        # What the middle of the cell stands for.
        at = (line + 0.5) * sums.operations / lines
        if at <= sums.byok_operations:
            cells.append(_OWN)
        elif at <= sums.byok_operations + sums.platform_operations:
            cells.append(_PLATFORM)
        else:
            cells.append(_UNPAID)
    return cells


def distribution(card: UsageCard) -> Text:
    """Which share of the operations each provider ran, as bars."""
    picture = Text("Provider distribution\n")
    shares = card.provider_distribution
    for provider, share in shares.items():
        filled = round(share * BAR_WIDTH)
        picture.append(f"{provider:<10} ")
        picture.append("█" * filled, "magenta").append("·" * (BAR_WIDTH - filled), "bright_black")
        picture.append(f" {share:.0%}\n")
    return picture if shares else Text("")


def parts_table(card: UsageCard) -> Table:
    """What each operation, model and credential was used for."""
    made = table("", "", ">operations", ">tokens", ">cost")
    names = {"byok": "own keys", "platform": "platform", "none": "no call"}
    parts: list[tuple[str, Sums]] = [
        *((names[name], card.by_credential[name]) for name in names if name in card.by_credential),
        *card.by_operation.items(),
        *((f"{model} ({provider})", sums) for (provider, model), sums in card.by_model.items()),
    ]
    for name, sums in parts:
        made.add_row(name, f"{sums.operations:,}", f"{sums.tokens:,}", f"${sums.cost_usd:.6f}")
    return made
