"""The ledger's months: partitions made ahead on PostgreSQL, and months that are kept no longer.

On SQLite the ledger is one table, and a month that goes is deleted from it.
"""

from sqlalchemy import Connection, delete, func, insert, select, text

from store import months, outbox
from store.schema import ledger, ledger_dropped
from store.schema import outbox as outbox_table

AHEAD = 3
"""How many months beyond the present one have a partition."""

_LOCK = 7_262_016
"""Names our advisory lock on PostgreSQL, as in `store.migrate`."""

DEFAULT = "ledger_default"
"""The partition of rows without a date, and of a month that has no partition yet."""


def partition_of(month: int) -> str:
    """The name of a month's partition."""
    return f"ledger_{month}"


def partitions(connection: Connection) -> list[str]:
    """The names of the ledger's partitions; none on SQLite."""
    if connection.dialect.name == "sqlite":
        return []
    found = connection.execute(
        text(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = 'ledger'::regclass ORDER BY child.relname"
        )
    )
    return list(found.scalars())


def prepare(connection: Connection, now: int) -> list[int]:
    """Make the partitions that there ought to be at `now` (Unix ms); the months that got one.

    Rows of a month that came before its partition are moved there from the default one. Of two
    schedulers that prepare at once, one does nothing.
    """
    if connection.dialect.name == "sqlite":
        return []
    missing = _missing(connection, now)
    if not missing or not _alone(connection):
        return []
    # Again, behind the lock: another scheduler may just have made them.
    made = _missing(connection, now)
    for month in made:
        _make(connection, month)
    return made


def _missing(connection: Connection, now: int) -> list[int]:
    have = set(partitions(connection))
    this = months.of_ms(now)
    last = months.plus(this, AHEAD)
    wanted = {months.plus(this, ahead) for ahead in range(AHEAD + 1)}
    early = connection.execute(text(f"SELECT DISTINCT month FROM {DEFAULT}")).scalars()  # noqa: S608 -- our own name
    # What says that it is of a later time than that has a wrong clock, and stays where it is.
    wanted |= {month for month in early if months.UNDATED < month <= last}
    return sorted(month for month in wanted if partition_of(month) not in have)


def _alone(connection: Connection) -> bool:
    got = connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    return bool(got.scalar())


def _make(connection: Connection, month: int) -> None:
    name = partition_of(month)
    # Aggregators wait for this for the moment that it takes; otherwise one could put a row into
    # the default partition between the move and the end of this transaction.
    connection.execute(text("LOCK TABLE ledger IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(text(f"CREATE TABLE {name} (LIKE ledger INCLUDING ALL)"))
    connection.execute(
        text(
            f"WITH moved AS (DELETE FROM {DEFAULT} WHERE month = {month} RETURNING *) "  # noqa: S608 -- our own names
            f"INSERT INTO {name} SELECT * FROM moved"
        )
    )
    connection.execute(text(f"ALTER TABLE ledger ATTACH PARTITION {name} FOR VALUES IN ({month})"))


def floor(connection: Connection) -> int:
    """The last month (YYYYMM) that was dropped; 0 where the ledger is whole."""
    return connection.execute(select(func.max(ledger_dropped.c.month))).scalar() or 0


def drop_before(connection: Connection, month: int, now: int) -> int | None:
    """Take the oldest month before `month` (YYYYMM) off the ledger; which, or `None`.

    What was added up of it stays. A month of which rows still wait in the outbox is not dropped:
    what is there was not counted yet.
    """
    oldest = _oldest(connection)
    if oldest is None or oldest >= month or _waits(connection, oldest):
        return None
    if connection.dialect.name != "sqlite":
        if not _alone(connection):
            return None
        connection.execute(text("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE"))
    gone = _of_month(connection, oldest)
    _keep_counts(connection, gone)
    rows = connection.execute(text(f"SELECT count(*) FROM ledger WHERE {gone}")).scalar_one()  # noqa: S608 -- our own condition
    if partition_of(oldest) in partitions(connection):
        connection.execute(text(f"DROP TABLE {partition_of(oldest)}"))
    connection.execute(text(f"DELETE FROM ledger WHERE {gone}"))  # noqa: S608 -- our own condition
    connection.execute(delete(ledger_dropped).where(ledger_dropped.c.month == oldest))
    connection.execute(insert(ledger_dropped).values(month=oldest, rows=rows, dropped_at=now))
    return oldest


def _oldest(connection: Connection) -> int | None:
    """The oldest month that the ledger has rows of, in a partition or elsewhere."""
    dated = connection.execute(
        select(func.min(ledger.c.month)).where(ledger.c.month > months.UNDATED)
    ).scalar()
    undated = connection.execute(
        select(func.min(ledger.c.at)).where(ledger.c.month == months.UNDATED)
    ).scalar()
    found = [month for month in (dated, months.of_ms(undated) if undated else None) if month]
    return min(found, default=None)


def _waits(connection: Connection, month: int) -> bool:
    oldest = connection.execute(
        select(func.min(outbox_table.c.created_at)).where(outbox_table.c.kind == outbox.USAGE)
    ).scalar()
    return oldest is not None and months.of_ms(oldest) <= month


def _of_month(connection: Connection, month: int) -> str:
    """A condition on the ledger's rows of a month, as retention goes by it."""
    stamp = (
        "CAST(strftime('%Y%m', at / 1000, 'unixepoch') AS integer)"
        if connection.dialect.name == "sqlite"
        else "CAST(to_char(to_timestamp(at / 1000) AT TIME ZONE 'UTC', 'YYYYMM') AS integer)"
    )
    return f"(month = {month} OR (month = {months.UNDATED} AND {stamp} = {month}))"


def _keep_counts(connection: Connection, gone: str) -> None:
    """Note how many of each key's requests are on rows that go."""
    connection.execute(
        text(
            "UPDATE provider_keys SET requests_dropped = requests_dropped + ("  # noqa: S608 -- our own condition
            "SELECT count(*) FROM ledger WHERE ledger.key_id = provider_keys.key_id "
            f"AND completes AND {gone}) "
            f"WHERE key_id IN (SELECT key_id FROM ledger WHERE completes AND {gone})"
        )
    )
