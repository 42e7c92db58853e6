"""Months: of ledger rows, which follow from their ids, and of budgets.

A ledger row's month decides in which partition it lies. It is read off the row's id, which is a
UUID of version 7 and begins with the time at which it was made: so a repeat of a row, whatever else
it says, meets the row itself, and one unique key per partition holds an id once over all of them.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

UNDATED = 0
"""The month of an id that does not tell when it was made."""

_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_DAY_MS = 86_400_000
_LATEST_MS = 4_102_444_800_000
"""2100: an id that says it is of a later time is no date."""


def of_id(row_id: str) -> int:
    """The month (YYYYMM, in UTC) in which an id was made, or `UNDATED`.

    What a suffix behind `~` says does not count: a correction lies beside what it corrects.
    """
    found = _UUID7.fullmatch(row_id.partition("~")[0])
    at = int(found[1] + found[2], 16) if found else _LATEST_MS
    return of_ms(at) if at < _LATEST_MS else UNDATED


def of_ms(at: int) -> int:
    """The month (YYYYMM, in UTC) of a Unix time in milliseconds."""
    return _of_day(at // _DAY_MS)


@lru_cache(maxsize=128)
def _of_day(day: int) -> int:
    moment = datetime.fromtimestamp(day * _DAY_MS / 1000, tz=UTC)
    return moment.year * 100 + moment.month


def plus(month: int, count: int) -> int:
    """The month (YYYYMM) that is `count` months later."""
    months = month // 100 * 12 + month % 100 - 1 + count
    return months // 12 * 100 + months % 12 + 1


def name(month: int) -> str:
    """A month as budgets have it: YYYY-MM."""
    return f"{month // 100:04}-{month % 100:02}"


def start_ms(month: int) -> int:
    """When a month (YYYYMM, in UTC) begins, in Unix ms."""
    return int(datetime(month // 100, month % 100, 1, tzinfo=UTC).timestamp() * 1000)
