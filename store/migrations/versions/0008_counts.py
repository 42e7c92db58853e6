"""An index that keys are counted by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    there = sa.text("removed_at IS NULL")
    op.create_index(
        "ix_provider_keys_counts",
        "provider_keys",
        ["provider", "status", "reason"],
        sqlite_where=there,
        postgresql_where=there,
    )


def downgrade() -> None:
    op.drop_index("ix_provider_keys_counts", table_name="provider_keys")
