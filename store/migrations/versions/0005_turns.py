"""The longest waiting request of an account is found by its index alone."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_analyses_waits",
        "analyses",
        ["account_id", "state", "reason", "created_at", "request_id"],
    )
    # It begins with the same columns, so it serves whatever the old one served.
    op.drop_index("ix_analyses_key_waits", table_name="analyses")


def downgrade() -> None:
    op.create_index("ix_analyses_key_waits", "analyses", ["account_id", "state", "reason"])
    op.drop_index("ix_analyses_waits", table_name="analyses")
