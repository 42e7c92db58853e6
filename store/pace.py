"""A pace that all processes keep together: at most so many a second of something.

One row of `cooldowns` says when everything that was let through so far will have been paid off
(the generic cell rate algorithm); so two schedulers share one pace, and a restart starts none anew.
"""

import math

from sqlalchemy import Connection, select, update

from store.schema import cooldowns
from store.statements import insert_ignore

BURST_SECONDS = 0.25
"""How much may come at once after a rest: two ticks of the scheduler, so that a slow one loses
nothing."""


_ROUNDING = 1e-9


def room(connection: Connection, scope: str, now: int, per_second: float) -> int:
    """How many of `scope` may go now; a plain read."""
    until = connection.execute(
        select(cooldowns.c.until_at).where(cooldowns.c.scope == scope)
    ).scalar_one_or_none()
    return _room(until or 0, now, per_second)


def take(connection: Connection, scope: str, now: int, per_second: float, wanted: int) -> int:
    """Let at most `wanted` of `scope` through at `now` (Unix ms); how many are."""
    if wanted < 1:
        return 0
    insert_ignore(connection, cooldowns, {"scope": scope, "until_at": 0, "reason": "pace"})
    until: int = connection.execute(
        select(cooldowns.c.until_at).where(cooldowns.c.scope == scope).with_for_update()
    ).scalar_one()
    taken = min(wanted, _room(until, now, per_second))
    if taken:
        connection.execute(
            update(cooldowns)
            .where(cooldowns.c.scope == scope)
            .values(until_at=max(until, now) + math.ceil(taken * 1000 / per_second))
        )
    return taken


def _room(until: int, now: int, per_second: float) -> int:
    # One may go whenever all before it are paid off, however slow the pace.
    ahead = max(BURST_SECONDS * 1000, 1000 / per_second)
    owed = max(0, until - now)
    return math.floor((ahead - owed) * per_second / 1000 + _ROUNDING)
