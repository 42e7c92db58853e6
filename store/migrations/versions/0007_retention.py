"""Ended requests and ended probes are found by when they ended."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FINISHED = sa.text("finished_at IS NOT NULL")
ENDED_PROBE = sa.text("request_id LIKE '~probe:%' AND ended_at IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_analyses_finished_at", "analyses", ["finished_at"], postgresql_where=FINISHED
    )
    op.create_index(
        "ix_attempts_ended_probes",
        "attempts",
        ["ended_at"],
        postgresql_where=ENDED_PROBE,
        sqlite_where=ENDED_PROBE,
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_ended_probes", table_name="attempts")
    op.drop_index("ix_analyses_finished_at", table_name="analyses")
