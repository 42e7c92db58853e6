"""What a restored backup is not to be believed in: whatever may have changed since it was taken.

Nobody here knows what happened between the backup and its restoration: consents were withdrawn,
keys removed, requests paid for. So consent is off and keys are held until upstream has said how
each stands, and what had not ended is not run a second time.
"""

from sqlalchemy import Connection, func, insert, select, update

from store.keys import UNTIL_TOLD, KeyRecord, find
from store.schema import (
    accounts,
    analyses,
    key_ids,
    key_settings,
    key_slots,
    operator_log,
    processes,
    provider_keys,
)

RESTORED = "restored"
"""The action in the log of operators, and the reason of requests that ended with it."""

_BEFORE_ALL = ""
"""An event id below every other: the present revision is believed when it is sent again."""


def note(connection: Connection, *, action_id: str, source: str, at: int) -> None:
    """Note that the database was restored by `at` (Unix ms)."""
    connection.execute(
        insert(operator_log).values(
            id=action_id, at=at, source=source, action=RESTORED, kind="database", name="", note=""
        )
    )


def restored_at(connection: Connection) -> int | None:
    """When the database was last restored (Unix ms), or `None` where it never was."""
    found: int | None = connection.execute(
        select(func.max(operator_log.c.at)).where(operator_log.c.action == RESTORED)
    ).scalar_one()
    return found


def running_processes(connection: Connection, since: int) -> int:
    """How many processes have renewed their lease since a moment (Unix ms) and did not stop."""
    return connection.execute(
        select(func.count())
        .select_from(processes)
        .where(processes.c.stopped_at.is_(None), processes.c.heartbeat_at > since)
    ).scalar_one()


def doubt_registers(connection: Connection) -> int:
    """Turn consent off everywhere, and let each present revision be taken when it comes again.

    The number of accounts that had consent.
    """
    without = connection.execute(
        update(accounts).where(accounts.c.ai_consent).values(ai_consent=False)
    )
    for table in (accounts, key_slots, key_settings, key_ids):
        connection.execute(update(table).values(event_id=_BEFORE_ALL))
    return without.rowcount


def keys_to_hold(connection: Connection, limit: int) -> list[KeyRecord]:
    """Keys whose secret is kept and which are not held yet."""
    found = connection.execute(
        select(provider_keys.c.key_id)
        .where(provider_keys.c.ciphertext.is_not(None), provider_keys.c.reason != UNTIL_TOLD)
        .limit(limit)
    ).scalars()
    records = (find(connection, key_id) for key_id in found)
    return [record for record in records if record is not None]


def unended(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Requests that had not ended, by account and id."""
    rows = connection.execute(
        select(analyses.c.account_id, analyses.c.request_id)
        .where(analyses.c.state.in_(("waiting", "running")))
        .limit(limit)
    )
    return [(row.account_id, row.request_id) for row in rows]
