"""The outlet: a process sends what it has put into the outbox itself, as soon as it is committed.

The outbox makes it sure. A row is due there `GRACE_SECONDS` after it was written, and the
scheduler's relay sends what lies there then: what a process did not come to send, or to clear.
So nothing here is kept on disk, and nothing that goes wrong here loses anything.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import structlog

from store import outbox
from store.engine import Database
from store.outbox import OutboxRow
from workers.effects import Effects

log = structlog.get_logger(__name__)

GRACE_SECONDS = 5.0
"""So long the relay leaves a row to the process that wrote it."""

APART_SECONDS = {outbox.EVENT: 0.02, outbox.USAGE: 0.5}
"""How far apart two sends of a kind are at least: one row alone goes at once, many go together."""

CLEAR_SECONDS = 0.25
"""How long the ids of what was sent are collected before they are cleared together."""

MOST_WAITING = 10_000
"""More than this is not kept in memory; it is left to the relay."""

CLEARED = (outbox.EVENT,)
"""What is deleted from the outbox once it is sent. Usage is cleared where it arrives."""

Send = Callable[[Sequence[OutboxRow]], None]


@dataclass(slots=True)
class _Batch:
    """Rows that go together, once it is time."""

    act: Send
    apart: float
    due: float = float("-inf")
    rows: list[OutboxRow] = field(default_factory=list)


class Outlet:
    """`send` says how rows of each kind are sent."""

    def __init__(self, database: Database, effects: Effects, send: Mapping[str, Send]) -> None:
        self._database = database
        self._effects = effects
        self._clearing = _Batch(self._clear, CLEAR_SECONDS)
        self._batches = {kind: _Batch(act, APART_SECONDS[kind]) for kind, act in send.items()}
        self._given: SimpleQueue[tuple[str, OutboxRow] | None] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._keep, name="outlet", daemon=True)

    def start(self) -> None:
        """Send from now on what is put here."""
        self._thread.start()

    def put(self, kind: str, row: OutboxRow) -> None:
        """Have a row sent that is committed."""
        if self._given.qsize() < MOST_WAITING:
            self._given.put((kind, row))

    def stop(self) -> None:
        """Send what there is, and then no more."""
        self._given.put(None)
        self._thread.join()

    def is_alive(self) -> bool:
        """Whether the thread that sends still runs."""
        return self._thread.is_alive()

    def _keep(self) -> None:
        while not self._stopped:
            self._take(self._rest())
            self._send_due()

    def _rest(self) -> float | None:
        """Seconds until something is to be sent; `None` where there is nothing to send."""
        waiting = [batch.due for batch in self._all() if batch.rows]
        return max(0.0, min(waiting) - self._effects.monotonic()) if waiting else None

    def _take(self, seconds: float | None) -> None:
        """Take what was given, and wait `seconds` for it where there is nothing."""
        try:
            given = self._given.get(timeout=seconds)
            while given is not None:
                kind, row = given
                self._batches[kind].rows.append(row)
                given = self._given.get_nowait()
            self._stopped = True
        except Empty:
            return

    def _send_due(self) -> None:
        # What was sent is cleared after it: so the batch of what is to be cleared comes last.
        for kind, batch in self._batches.items():
            rows = self._act_if_due(batch)
            if kind in CLEARED:
                if rows and not self._clearing.rows:
                    self._clearing.due = self._effects.monotonic() + CLEAR_SECONDS
                self._clearing.rows += rows
        self._act_if_due(self._clearing)

    def _act_if_due(self, batch: _Batch) -> list[OutboxRow]:
        """Act on a batch whose time has come; the rows that it was done for."""
        now = self._effects.monotonic()
        if not batch.rows or (now < batch.due and not self._stopped):
            return []
        rows, batch.rows, batch.due = batch.rows, [], now + batch.apart
        try:
            batch.act(rows)
        except Exception as error:  # noqa: BLE001 -- all of it lies in the outbox: the relay's turn
            log.warning("left_to_the_relay", count=len(rows), error=type(error).__name__)
            return []
        return rows

    def _clear(self, rows: Sequence[OutboxRow]) -> None:
        with self._database.brief() as connection:
            outbox.clear(connection, [row.id for row in rows])

    def _all(self) -> list[_Batch]:
        return [*self._batches.values(), self._clearing]
