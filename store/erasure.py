"""Erasing an account: what is personal goes, the ledger's sums stay under a dead surrogate."""

from sqlalchemy import Connection, delete, update

from store.schema import analyses, data_keys, key_settings, set_aside, surrogates, waiting_events


def erase_account(connection: Connection, account_id: str) -> None:
    """Erase what is stored of an account beside its keys and its row, its requests having ended.

    Destroying the account's data key makes every encrypted text of it unreadable, in backups
    too.
    """
    connection.execute(
        update(analyses).where(analyses.c.account_id == account_id).values(input=None, result=None)
    )
    for table in (waiting_events, set_aside, key_settings, surrogates):
        connection.execute(delete(table).where(table.c.account_id == account_id))
    connection.execute(delete(data_keys).where(data_keys.c.scope == account_id))
