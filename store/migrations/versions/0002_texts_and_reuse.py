"""Free text of results under the vault, and what a result may be reused for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("analyses") as analyses:
        analyses.add_column(sa.Column("result_text", sa.LargeBinary(), nullable=True))
        analyses.add_column(sa.Column("reuse_digest", sa.LargeBinary(), nullable=True))
    op.create_index(
        "ix_analyses_reuse_digest",
        "analyses",
        ["reuse_digest"],
        unique=False,
        postgresql_where=sa.text("reuse_digest IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_analyses_reuse_digest",
        table_name="analyses",
        postgresql_where=sa.text("reuse_digest IS NOT NULL"),
    )
    with op.batch_alter_table("analyses") as analyses:
        analyses.drop_column("reuse_digest")
        analyses.drop_column("result_text")
