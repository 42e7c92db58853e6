"""Whose turn it is among an account's requests that wait for room.

They wait in the store. The thread whose call made room runs the longest waiting one, so none waits
for a sweep; and each that is started so wakes another by a message, for as long as there is room.
So a queue of thousands starts one after the other, in all processes, and never all together.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import Connection

from events.analyses import ANALYSES_QUEUE
from events.broker import BrokerAway
from store import analyses
from workers.analyses import ending
from workers.app import App

log = structlog.get_logger(__name__)

RESUME_ACTOR = "resume_analysis"


def hold(app: App, connection: Connection, request: analyses.Request, now: int) -> None:
    """Put a request off until its account's turn."""
    due_at = now + int(1000 * analyses.TURN_SECONDS * (1 + app.effects.jitter()))
    ending.park(app, connection, request, analyses.ACCOUNT_BUSY, due_at)


@contextmanager
def place(app: App, account: str) -> Iterator[bool]:
    """A place in the account's share of this process; whether there was one."""
    placed = app.shares.enter(account)
    try:
        yield placed
    finally:
        if placed:
            app.shares.leave(account)


@contextmanager
def next_in_turn(
    app: App, account: str, beside: Collection[str] = ()
) -> Iterator[tuple[str, str] | None]:
    """The account's request whose turn it is, which no other thread of this process looks at.

    With it the provider that it wants, which is none of `beside`.
    """
    with app.database.look() as connection:
        # One more than can be looked at by others at once.
        limit = app.shares.limit + 1
        held = analyses.held(connection, account, analyses.TURN_WAITS, limit, beside)
    picked = app.shares.pick(account, held)
    try:
        yield picked
    finally:
        if picked is not None:
            app.shares.unpick(account, picked[0])


def wake(app: App, account: str, request_id: str) -> None:
    """Have a request looked at by whichever process has room.

    Without the queue it is not waked: it becomes due in the end, and the scheduler sends it.
    """
    try:
        app.publisher.send(ANALYSES_QUEUE, RESUME_ACTOR, account, request_id)
    except BrokerAway as error:
        log.warning("not_waked", error=type(error).__name__)


def wake_another(app: App, account: str) -> None:
    """Where the account has room in this process and something waits for it: wake that."""
    if not app.shares.has_room(account):
        return
    try:
        with next_in_turn(app, account) as picked:
            if picked is not None:
                wake(app, account, picked[0])
    except Exception as error:  # noqa: BLE001 -- the caller has an attempt on the books to send
        log.warning("not_waked", error=type(error).__name__)
