"""Billed validations: noted before they are sent, as attempts are, so that none is lost unseen.

They lie among the attempts, under a request id of their own. One whose process died is `unknown`
and is listed with the others: the provider may have billed it.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, or_, select, tuple_, update

from store.schema import attempts, processes

PREFIX = "~probe:"
"""How the request id of a probe begins, and no identifier in an event can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One billed validation. `number` is the validation's, of which a key has each once."""

    account_id: str
    key_id: str
    number: int

    @property
    def request_id(self) -> str:
        """Under what it lies among the attempts and on the ledger."""
        return f"{PREFIX}{self.key_id}:{self.number}"


def start(
    connection: Connection, probe: Probe, *, process_id: str, provider: str, model: str, now: int
) -> None:
    """Note that `process_id` is about to send a probe."""
    connection.execute(
        insert(attempts).values(
            account_id=probe.account_id,
            request_id=probe.request_id,
            attempt=probe.number,
            state="started",
            process_id=process_id,
            provider=provider,
            model=model,
            credential="byok",
            key_id=probe.key_id,
            started_at=now,
        )
    )


def any_lost(connection: Connection, started_before: int) -> bool:
    """Whether `give_up_lost` would find anything; a plain read."""
    return bool(_lost(connection, started_before, 1))


def give_up_lost(connection: Connection, started_before: int, now: int, limit: int = 500) -> int:
    """Make probes `unknown` that nobody will end any more; how many.

    That is so where the process holds no lease any more, or where the probe was started before
    `started_before` (Unix ms), which is longer ago than any call takes.
    """
    lost = _lost(connection, started_before, limit)
    if not lost:
        return 0
    return connection.execute(
        update(attempts)
        .where(
            tuple_(attempts.c.account_id, attempts.c.request_id, attempts.c.attempt).in_(lost),
            attempts.c.state == "started",
        )
        .values(state="unknown", outcome="worker_lost", ended_at=now)
    ).rowcount


def _lost(connection: Connection, started_before: int, limit: int) -> list[tuple[str, str, int]]:
    rows = connection.execute(
        select(attempts.c.account_id, attempts.c.request_id, attempts.c.attempt)
        .outerjoin_from(attempts, processes, processes.c.process_id == attempts.c.process_id)
        .where(
            attempts.c.state == "started",
            attempts.c.request_id.startswith(PREFIX, autoescape=True),
            or_(
                processes.c.process_id.is_(None),
                processes.c.stopped_at.is_not(None),
                attempts.c.started_at < started_before,
            ),
        )
        .limit(limit)
    )
    return [tuple(row) for row in rows]
