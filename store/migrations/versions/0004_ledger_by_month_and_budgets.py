"""The ledger by month (partitioned on PostgreSQL), budgets, and what retention took.

An aggregator of the version before cannot write to the new ledger: it fails until it is restarted,
and what it was given stays in the outbox meanwhile and is sent again.
"""

import re
from collections import Counter
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PAGE = 2_000
UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.rename_table("ledger", "ledger_before")
    op.drop_index("ix_ledger_surrogate_local_date", table_name="ledger_before")
    if postgresql:
        op.execute("ALTER INDEX pk_ledger RENAME TO pk_ledger_before")
    ledger = op.create_table(
        "ledger",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("surrogate", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=160), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("completes", sa.Boolean(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("credential", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=160), nullable=True),
        sa.Column("fallback_reason", sa.String(length=64), nullable=True),
        count("input_tokens"),
        count("cached_read_tokens"),
        count("cache_write_tokens"),
        count("output_tokens"),
        count("reasoning_tokens"),
        count("cost_nano_usd"),
        sa.Column("priced", sa.Boolean(), nullable=False),
        sa.Column("price_version", sa.String(length=64), nullable=False),
        sa.Column("provider_request_id", sa.String(length=200), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("local_date", sa.String(length=10), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", "month", name=op.f("pk_ledger")),
        postgresql_partition_by="LIST (month)",
    )
    op.create_index("ix_ledger_surrogate_local_date", "ledger", ["surrogate", "local_date"])
    if postgresql:
        # The scheduler makes the months' own partitions and moves there what belongs there.
        op.execute("CREATE TABLE ledger_default PARTITION OF ledger DEFAULT")
    op.create_table(
        "ledger_dropped",
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("dropped_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_ledger_dropped")),
    )
    budget_months = op.create_table(
        "budget_months",
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        count("spent_nano_usd"),
        count("billed_nano_usd"),
        count("reserved_nano_usd"),
        sa.Column("reached_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "month", name=op.f("pk_budget_months")),
    )
    op.create_table(
        "budget_holds",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("request_id", sa.String(length=160), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("cap_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("row_id", sa.String(length=160), nullable=True),
        sa.PrimaryKeyConstraint(
            "account_id", "request_id", "attempt", "scope", name=op.f("pk_budget_holds")
        ),
    )
    op.create_index("ix_budget_holds_row_id", "budget_holds", ["row_id"])
    with op.batch_alter_table("provider_keys") as keys:
        keys.add_column(count("requests_dropped"))
    with op.batch_alter_table("analyses") as analyses:
        analyses.add_column(
            sa.Column("budget_held", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    spent = _move(ledger)
    if spent:
        op.bulk_insert(
            budget_months,
            [
                {"scope": scope, "month": month, "spent_nano_usd": cost}
                for (scope, month), cost in spent.items()
            ],
        )
    op.drop_table("ledger_before")


def _move(ledger: sa.Table) -> Counter[tuple[str, str]]:
    """Copy the rows into the new table; what was spent by scope and month."""
    connection = op.get_bind()
    before = sa.Table("ledger_before", sa.MetaData(), autoload_with=connection)
    spent: Counter[tuple[str, str]] = Counter()
    last = ""
    page = sa.select(before).order_by(before.c.id).limit(PAGE)
    while rows := connection.execute(page.where(before.c.id > last)).mappings().all():
        last = rows[-1]["id"]
        moved = []
        for row in rows:
            month = _month_of_id(row["id"])
            moved.append(
                {
                    **row,
                    "month": month,
                    "recorded_at": row["at"],
                    "digest": bytes(row["digest"]).hex(),
                }
            )
            _spend(spent, row, month)
        connection.execute(ledger.insert(), moved)
    return spent


def _spend(spent: Counter[tuple[str, str]], row: sa.RowMapping, month: int) -> None:
    cost, local = row["cost_nano_usd"], row["local_date"][:7]
    if not cost:
        return
    spent[f"account:{row['surrogate']}", local] += cost
    if row["key_id"] is not None:
        spent[f"key:{row['key_id']}", local] += cost
    if row["credential"] == "platform":
        of_utc = month or _month(row["at"])
        spent["platform", f"{of_utc // 100:04}-{of_utc % 100:02}"] += cost


def _month_of_id(row_id: str) -> int:
    found = UUID7.fullmatch(row_id)
    return _month(int(found[1] + found[2], 16)) if found else 0


def _month(at: int) -> int:
    moment = datetime.fromtimestamp(at / 1000, tz=UTC)
    return moment.year * 100 + moment.month


def downgrade() -> None:
    op.execute("ALTER TABLE ledger RENAME TO ledger_by_month")
    op.drop_index("ix_ledger_surrogate_local_date", table_name="ledger_by_month")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX pk_ledger RENAME TO pk_ledger_by_month")
    connection = op.get_bind()
    by_month = sa.Table("ledger_by_month", sa.MetaData(), autoload_with=connection)
    kept = [column for column in by_month.c if column.name not in ("month", "recorded_at")]
    before = op.create_table(
        "ledger",
        *(
            sa.Column("digest", sa.LargeBinary(), nullable=False)
            if column.name == "digest"
            else sa.Column(
                column.name,
                column.type,
                nullable=column.nullable,
                server_default=column.server_default,
            )
            for column in kept
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    op.create_index("ix_ledger_surrogate_local_date", "ledger", ["surrogate", "local_date"])
    for row in connection.execute(sa.select(*kept)).mappings().all():
        digest = bytes.fromhex(row["digest"])
        connection.execute(before.insert(), {**row, "digest": digest})
    op.drop_table("ledger_by_month")
    with op.batch_alter_table("analyses") as analyses:
        analyses.drop_column("budget_held")
    with op.batch_alter_table("provider_keys") as keys:
        keys.drop_column("requests_dropped")
    op.drop_table("budget_holds")
    op.drop_table("budget_months")
    op.drop_table("ledger_dropped")
