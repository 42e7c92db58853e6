"""Which life of its account a request belongs to, what a deletion destroyed, whose a key id is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_ids",
        sa.Column("key_id", sa.String(length=160), nullable=False),
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_ids")),
    )
    # By which event is not known any more; the empty id is below all others.
    op.execute(
        "INSERT INTO key_ids (key_id, account_id, provider, revision, event_id) "
        "SELECT key_id, account_id, provider, revision, '' FROM provider_keys"
    )
    op.create_table(
        "deletions",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("source", sa.String(length=256), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("destroyed", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "revision", name=op.f("pk_deletions")),
    )
    with op.batch_alter_table("analyses") as analyses:
        analyses.add_column(sa.Column("account_revision", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("analyses") as analyses:
        analyses.drop_column("account_revision")
    op.drop_table("deletions")
    op.drop_table("key_ids")
