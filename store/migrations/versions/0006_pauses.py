"""What operators pause, and the log of what they did."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pauses",
        sa.Column("kind", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(256), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("resumed_at", sa.BigInteger),
    )
    op.create_table(
        "operator_log",
        sa.Column("id", sa.String(160), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(256), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("name", sa.String(160), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("ix_operator_log_at", "operator_log", ["at"])
    paused = sa.text("substr(reason, 1, 6) = 'paused'")
    op.create_index(
        "ix_analyses_paused",
        "analyses",
        ["reason", "account_id"],
        postgresql_where=paused,
        sqlite_where=paused,
    )


def downgrade() -> None:
    op.drop_index("ix_analyses_paused", table_name="analyses")
    op.drop_table("operator_log")
    op.drop_table("pauses")
