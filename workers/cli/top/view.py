"""How a look at the system is drawn."""

from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

LATE_SECONDS = 60.0
"""A message or row that waited longer is shown in red; up to a sixth of it, in plain."""

UNKNOWN = "-"
"""For what nobody can tell now."""

_MINUTE, _HOUR = 60, 3600
_IN_SECONDS, _IN_MINUTES = 2 * _MINUTE, 2 * _HOUR

_BREAKERS = {"closed": "green", "open": "red", "probing": "yellow"}
_STATUSES = {"valid": "green", "pending": "yellow", "invalid": "red"}


def drawn(told: dict[str, Any]) -> RenderableType:
    """The whole view of what `picture.described` tells."""
    side = Table.grid(padding=(0, 4))
    side.add_row(_analyses(told["analyses"]), _keys(told["keys"]), _lag(told))
    parts: list[RenderableType] = [
        _head(told),
        _queues(told["queues"]),
        _providers(told["providers"]),
        side,
    ]
    if told["pauses"]:
        parts.append(_pauses(told["pauses"]))
    return Group(*parts)


def _head(told: dict[str, Any]) -> Text:
    roles = ", ".join(f"{n} {role}" for role, n in sorted(told["processes"].items()))
    text = Text.assemble(
        ("byok top", "bold"),
        f"  {told['at'][:19].replace('T', ' ')} UTC  ",
        (roles or "no worker and no scheduler", "" if roles else "red"),
    )
    for part, error in told["away"].items():
        text.append(f"\n{part} cannot be reached ({error}): see `byok doctor`", "red")
    if told["counted_from"] is None:
        text.append("\nno rates: the exporter does not answer", "yellow")
    return text


def _queues(queues: Iterable[dict[str, Any]]) -> Table:
    made = _table(
        "Queues", "queue", ">waiting", ">taken", ">due in store", ">oldest", ">taken/s", ">wait", ""
    )
    for one in queues:
        made.add_row(
            one["queue"],
            _count(one["waiting"]),
            _count(one["taken"]),
            _count(one["due_in_store"]),
            _age(one["oldest_seconds"]),
            _rate(one["taken_per_second"]),
            _seconds(one["mean_wait_seconds"]),
            Text("paused", "yellow") if one["paused"] else "",
        )
    return made


def _providers(providers: Iterable[dict[str, Any]]) -> Table:
    made = _table(
        "Providers",
        *("provider", "breaker", ">running", ">calls/s", ">errors/s", ">call"),
        *(">validations/s", ">due", ">late", ""),
    )
    for one in providers:
        breaker = one["breaker"] or UNKNOWN
        errors = one["errors_per_second"]
        made.add_row(
            one["provider"],
            Text(breaker, _BREAKERS.get(breaker, "")),
            _count(one["running"]),
            _rate(one["calls_per_second"]),
            Text(_rate(errors), "red" if errors else ""),
            _seconds(one["mean_call_seconds"]),
            _rate(one["validations_per_second"]),
            _count(one["validations_due"]),
            Text(_count(one["validations_late"]), "red" if one["validations_late"] else ""),
            Text("paused", "yellow") if one["paused"] else "",
        )
    return made


def _analyses(told: dict[str, Any]) -> Table:
    made = _table("Analyses", "", ">")
    made.add_row("running", _count(told["running"]))
    for reason, count in told["waiting"].items():
        made.add_row(f"waiting: {reason.replace('_', ' ')}", _count(count))
    made.add_row("oldest", _age(told["oldest_seconds"]))
    for outcome, rate in told["ended_per_second"].items():
        made.add_row(f"{outcome}/s", _rate(rate))
    share = told["answered_without_call_share"]
    made.add_row("by rules or reuse", UNKNOWN if share is None else f"{share:.0%}")
    made.add_row("accepted to completed", _seconds(told["mean_seconds"]))
    made.add_row("lost answers", _count(told["unknown_attempts"]))
    made.add_row("tokens/s", _rate(told["tokens_per_second"]))
    cost = told["cost_usd_per_hour"]
    made.add_row("cost an hour", UNKNOWN if cost is None else f"${cost:,.2f}")
    return made


def _keys(keys: Iterable[dict[str, Any]]) -> Table:
    made = _table("Keys", "provider", "status", "reason", ">keys")
    for one in keys:
        made.add_row(
            one["provider"],
            Text(one["status"], _STATUSES.get(one["status"], "")),
            one["reason"],
            _count(one["keys"]),
        )
    return made


def _lag(told: dict[str, Any]) -> Table:
    made = _table("Lag", "", ">rows", ">oldest")
    for one in told["lag"]:
        made.add_row(f"outbox: {one['outbox']}", _count(one["rows"]), _age(one["oldest_seconds"]))
    if not told["lag"]:
        made.add_row("outbox", "0", "")
    for kind, seconds in told["kept_too_long_seconds"].items():
        made.add_row(f"kept too long: {kind.replace('_', ' ')}", "", _age(seconds))
    for one in told["budgets"]:
        what = f"budgets, {one['scope']}: {one['state'].replace('_', ' ')}"
        made.add_row(what, Text(_count(one["budgets"]), "yellow"), "")
    for what, count in told["set_aside"].items():
        made.add_row(f"set aside, {what}", Text(_count(count), "yellow"), "")
    return made


def _pauses(pauses: Iterable[dict[str, Any]]) -> Table:
    made = _table("Paused", "what", "name", "since", "by", "note", ">requests wait")
    for one in pauses:
        made.add_row(
            one["kind"],
            one["name"],
            one["since"][:19].replace("T", " "),
            one["by"],
            one["note"],
            _count(one["requests_waiting"]),
        )
    return made


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        name = column.lstrip(">")
        made.add_column(name, justify="right" if column.startswith(">") else "left", no_wrap=True)
    made.show_header = any(column.lstrip(">") for column in columns)
    return made


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.1f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:,.1f} s"


def _age(value: float | None) -> Text:
    if value is None:
        return Text(UNKNOWN)
    style = "red" if value > LATE_SECONDS else "yellow" if value > LATE_SECONDS / 6 else ""
    if value < _IN_SECONDS:
        return Text(f"{value:.0f} s", style)
    if value < _IN_MINUTES:
        return Text(f"{value / _MINUTE:,.0f} min", style)
    return Text(f"{value / _HOUR:,.0f} h", style)
