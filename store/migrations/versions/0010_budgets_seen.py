"""At which cap a budget held a request back, and an index that finds those that are reached."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

REACHED = sa.text("reached_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("budget_months", sa.Column("refused_cap_nano_usd", sa.BigInteger))
    op.create_index(
        "ix_budget_months_reached",
        "budget_months",
        ["month"],
        postgresql_where=REACHED,
        sqlite_where=REACHED,
    )


def downgrade() -> None:
    op.drop_index("ix_budget_months_reached", table_name="budget_months")
    op.drop_column("budget_months", "refused_cap_nano_usd")
