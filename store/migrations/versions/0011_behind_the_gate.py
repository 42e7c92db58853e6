"""On PostgreSQL: passing an account's gate in the midst of a statement."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# `xmin` is the transaction that wrote a row: another one for each change, whoever makes it.
KEY_VERSIONS = """
CREATE FUNCTION byok_key_versions(account text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(
        '|',
        (
            SELECT string_agg(k.xmin::text, ',' ORDER BY k.key_id)
            FROM provider_keys AS k WHERE k.account_id = account AND k.removed_at IS NULL
        ),
        (
            SELECT string_agg(s.xmin::text, ',' ORDER BY s.provider)
            FROM key_slots AS s WHERE s.account_id = account
        ),
        (
            SELECT string_agg(s.xmin::text, ',' ORDER BY s.key_id)
            FROM key_settings AS s WHERE s.account_id = account
        )
    )
$$
"""

# Each query of a volatile function sees what was committed before it, not only what was before the
# statement that calls the function: so this reads behind the gate. What is NULL is not asked for.
UNCHANGED = """
CREATE FUNCTION byok_unchanged(
    account_gate bigint, account text, account_version text, key_versions text,
    process_gate bigint, process text
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(account_gate);
    IF process IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(process_gate);
        IF NOT EXISTS (
            SELECT FROM processes AS p WHERE p.process_id = process AND p.stopped_at IS NULL
        ) THEN
            RETURN false;
        END IF;
    END IF;
    IF key_versions IS NOT NULL AND key_versions <> byok_key_versions(account) THEN
        RETURN false;
    END IF;
    RETURN EXISTS (
        SELECT FROM accounts AS a
        WHERE a.account_id = account AND a.xmin::text = account_version AND NOT a.deleted
    );
END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(KEY_VERSIONS)
        op.execute(UNCHANGED)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION byok_unchanged")
        op.execute("DROP FUNCTION byok_key_versions")
