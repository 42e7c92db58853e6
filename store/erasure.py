"""Erasing an account: what is personal goes, the ledger's sums stay under a dead surrogate."""

from sqlalchemy import Connection, delete, update

from store.schema import analyses, data_keys, key_settings, set_aside, surrogates


def erase_account(connection: Connection, account_id: str, revision: int) -> None:
    """Erase what is stored of an account beside its keys and its row, its requests having ended.

    A key event of the account's next life may have come before the deletion of `revision`: what
    it set stays.

    Destroying the account's data key makes every encrypted text of it unreadable, in backups
    too.
    """
    connection.execute(
        update(analyses)
        .where(analyses.c.account_id == account_id)
        .values(input=None, result=None, result_text=None, reuse_digest=None)
    )
    connection.execute(
        delete(key_settings).where(
            key_settings.c.account_id == account_id, key_settings.c.revision <= revision
        )
    )
    for table in (set_aside, surrogates):
        connection.execute(delete(table).where(table.c.account_id == account_id))
    connection.execute(delete(data_keys).where(data_keys.c.scope == account_id))
