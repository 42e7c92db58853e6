"""The trace that a request belongs to: it goes on where the request is looked at again."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("analyses", sa.Column("traceparent", sa.String(55)))


def downgrade() -> None:
    op.drop_column("analyses", "traceparent")
