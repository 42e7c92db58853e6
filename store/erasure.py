"""Erasing an account: what is personal goes, the ledger's sums stay under a dead surrogate."""

from sqlalchemy import Connection, delete, update

from store.analyses import RUNNING, SKIPPED, WAITING
from store.schema import analyses, data_keys, key_settings, set_aside, surrogates, waiting_events


def erase_account(connection: Connection, account_id: str, now: int) -> None:
    """Erase what is stored of an account beside its keys and its row.

    Destroying the account's data key makes every encrypted text of it unreadable, in backups
    too. Requests under way end here; an answer that still comes is billed and not stored.
    """
    connection.execute(
        update(analyses)
        .where(analyses.c.account_id == account_id, analyses.c.state.in_((WAITING, RUNNING)))
        .values(
            state=SKIPPED,
            reason="account_deleted",
            due_at=None,
            finished_at=now,
            credit_period_at=None,
        )
    )
    connection.execute(
        update(analyses).where(analyses.c.account_id == account_id).values(input=None, result=None)
    )
    for table in (waiting_events, set_aside, key_settings, surrogates):
        connection.execute(delete(table).where(table.c.account_id == account_id))
    connection.execute(delete(data_keys).where(data_keys.c.scope == account_id))
