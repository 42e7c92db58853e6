"""A run's report as a table and a few lines."""

from rich.console import Console
from rich.table import Table

from tests.chaos.audit import Report, median, percentile
from workers.cli.console import table

SHOWN = 40
COLUMNS = (
    "fault",
    ">times",
    ">accepted",
    ">terminal",
    ">lost",
    ">broker alone",
    ">double results",
    ">double rows",
    ">unknown",
    ">bill alone",
    ">taken up s",
    ">recovered s",
)


def show(report: Report, console: Console) -> None:
    """Print the table, the figures, and what is wrong."""
    console.print(_table(report))
    for line in lines(report):
        console.print(line, highlight=False)
    for sentence in report.wrong[:SHOWN]:
        console.print(f"WRONG: {sentence}", highlight=False)
    if len(report.wrong) > SHOWN:
        console.print(f"… and {len(report.wrong) - SHOWN} more", highlight=False)


def _table(report: Report) -> Table:
    made = table("", *COLUMNS)
    made.expand = False
    for name, row in sorted(report.rows.items()):
        counts = (
            row.times,
            row.accepted,
            row.terminal,
            row.lost,
            row.alone,
            row.double_results,
            row.double_rows,
            row.unknown,
            row.unbooked,
        )
        made.add_row(name, *map(str, counts), _most(row.taken_up), _most(row.recovered))
    return made


def lines(report: Report) -> list[str]:
    """What holds for the run as a whole."""
    rate = report.calls_a_second
    used, paid = report.credits
    ended = ", ".join(f"{name} {count}" for name, count in report.ended.most_common())
    tries = ", ".join(f"{number}: {count}" for number, count in sorted(report.attempts.items()))
    quiet = "never" if report.quiet_after is None else f"{report.quiet_after:.1f} s after the load"
    told: dict[str, str] = {
        "published": f"{report.published} events, {report.keys} of them of keys, in"
        f" {report.publishing_attempts} attempts; told to send again {report.told_to_send_again}",
        "ended": ended,
        "bill": f"{report.billed} calls; ledger {report.booked}; on the bill alone"
        f" {report.unbooked}; unknown attempts {report.unknown}",
        "credits": f"used {used}, operations on the ledger {paid}",
        "attempts a request": tries,
        "run again after SIGKILL": f"{_figures(report.again)} (aim: p99 15 s)",
        "taken up after due": f"{_figures(report.late)} (aim: 2 s)",
        "calls a second": f"median {median(rate):g}, most {max(rate, default=0)}, in the last"
        f" minute most {max(rate[-60:], default=0)}",
        "quiet": quiet,
    }
    return [f"{name}: {value}" for name, value in told.items()]


def _figures(values: list[float]) -> str:
    if not values:
        return "none"
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    return f"p50 {p50:.1f} s, p99 {p99:.1f} s of {len(values)}"


def _most(values: list[float]) -> str:
    return f"{max(values):.1f}" if values else "-"
