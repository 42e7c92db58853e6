"""First schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column(
            "deleted_revision", sa.BigInteger(), server_default=sa.text("(-1)"), nullable=False
        ),
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("plan_status", sa.String(length=64), nullable=False),
        sa.Column("ai_consent", sa.Boolean(), nullable=False),
        sa.Column("credits_limit", sa.BigInteger(), nullable=True),
        sa.Column("period_start_at", sa.BigInteger(), nullable=False),
        sa.Column("period_end_at", sa.BigInteger(), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("custom_categories", sa.JSON(), nullable=False),
        sa.Column("category_overrides", sa.JSON(), nullable=False),
        sa.Column("budget_nano_usd", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "analyses",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("request_id", sa.String(length=160), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("provider_wanted", sa.String(length=64), nullable=False),
        sa.Column("model_wanted", sa.String(length=100), nullable=True),
        sa.Column("input", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), server_default=sa.text("('')"), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("setbacks", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bad_answers", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("refusals", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("process_id", sa.String(length=160), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("credit_period_at", sa.BigInteger(), nullable=True),
        sa.Column("credential", sa.String(length=64), nullable=True),
        sa.Column("key_id", sa.String(length=160), nullable=True),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("model", sa.String(length=100), nullable=True),
        sa.Column("answered_by", sa.String(length=64), nullable=True),
        sa.Column("fallback_reason", sa.String(length=64), nullable=True),
        sa.Column("prompt_version", sa.String(length=64), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("usage", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "request_id", name=op.f("pk_analyses")),
    )
    with op.batch_alter_table("analyses", schema=None) as batch_op:
        batch_op.create_index(
            "ix_analyses_due_at",
            ["due_at"],
            unique=False,
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_analyses_key_waits", ["account_id", "state", "reason"], unique=False
        )
        batch_op.create_index("ix_analyses_state_process_id", ["state", "process_id"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("request_id", sa.String(length=160), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=64), nullable=True),
        sa.Column("process_id", sa.String(length=160), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("credential", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=160), nullable=True),
        sa.Column("fallback_reason", sa.String(length=64), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("provider_request_id", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "request_id", "attempt", name=op.f("pk_attempts")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index("ix_attempts_state_process_id", ["state", "process_id"], unique=False)

    op.create_table(
        "cooldowns",
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_cooldowns")),
    )
    op.create_table(
        "credit_periods",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("period_start_at", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reserved", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("exhausted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "period_start_at", name=op.f("pk_credit_periods")),
    )
    op.create_table(
        "daily_usage",
        sa.Column("surrogate", sa.String(length=64), nullable=False),
        sa.Column("local_date", sa.String(length=10), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("credential", sa.String(length=64), nullable=False),
        sa.Column("operations", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("calls", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "cached_read_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column(
            "cache_write_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("output_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced_calls", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint(
            "surrogate",
            "local_date",
            "operation",
            "provider",
            "model",
            "credential",
            name=op.f("pk_daily_usage"),
        ),
    )
    op.create_table(
        "data_keys",
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("master_key_id", sa.String(length=64), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_data_keys")),
    )
    with op.batch_alter_table("data_keys", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_data_keys_master_key_id"), ["master_key_id"], unique=False
        )

    op.create_table(
        "key_history",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("key_id", sa.String(length=160), nullable=False),
        sa.Column("cause", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("source", sa.String(length=256), nullable=False),
        sa.Column("old_status", sa.String(length=64), nullable=True),
        sa.Column("new_status", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_history")),
    )
    with op.batch_alter_table("key_history", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_key_history_account_id"), ["account_id"], unique=False)

    op.create_table(
        "key_settings",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("key_id", sa.String(length=160), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("allow_platform_fallback", sa.Boolean(), nullable=False),
        sa.Column("budget_nano_usd", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "key_id", name=op.f("pk_key_settings")),
    )
    op.create_table(
        "key_slots",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("key_id", sa.String(length=160), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "provider", name=op.f("pk_key_slots")),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.String(length=160), nullable=False),
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
        sa.Column("input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "cached_read_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column(
            "cache_write_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("output_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("priced", sa.Boolean(), nullable=False),
        sa.Column("price_version", sa.String(length=64), nullable=False),
        sa.Column("provider_request_id", sa.String(length=200), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("local_date", sa.String(length=10), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.create_index(
            "ix_ledger_surrogate_local_date", ["surrogate", "local_date"], unique=False
        )

    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("sends", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("ix_outbox_kind_due_at", ["kind", "due_at"], unique=False)

    op.create_table(
        "processes",
        sa.Column("process_id", sa.String(length=160), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=256), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("process_id", name=op.f("pk_processes")),
    )
    op.create_table(
        "provider_keys",
        sa.Column("key_id", sa.String(length=160), nullable=False),
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("master_key_id", sa.String(length=64), nullable=True),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=True),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.Column("last4", sa.String(length=4), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("tested_at", sa.BigInteger(), nullable=True),
        sa.Column("last_ok_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.Column("requests", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("validation_no", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "validation_failures", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("validate_at", sa.BigInteger(), nullable=True),
        sa.Column("suspect_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_provider_keys")),
    )
    with op.batch_alter_table("provider_keys", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_provider_keys_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_provider_keys_master_key_id"), ["master_key_id"], unique=False
        )
        batch_op.create_index("ix_provider_keys_validate_at", ["validate_at"], unique=False)

    op.create_table(
        "set_aside",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=True),
        sa.Column("event_type", sa.String(length=160), nullable=True),
        sa.Column("account_id", sa.String(length=160), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_set_aside")),
    )
    with op.batch_alter_table("set_aside", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_set_aside_at"), ["at"], unique=False)

    op.create_table(
        "surrogates",
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("surrogate", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_surrogates")),
        sa.UniqueConstraint("surrogate", name=op.f("uq_surrogates_surrogate")),
    )
    op.create_table(
        "waiting_events",
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_waiting_events")),
    )
    with op.batch_alter_table("waiting_events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_waiting_events_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_waiting_events_due_at"), ["due_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("waiting_events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_waiting_events_due_at"))
        batch_op.drop_index(batch_op.f("ix_waiting_events_account_id"))

    op.drop_table("waiting_events")
    op.drop_table("surrogates")
    with op.batch_alter_table("set_aside", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_set_aside_at"))

    op.drop_table("set_aside")
    with op.batch_alter_table("provider_keys", schema=None) as batch_op:
        batch_op.drop_index("ix_provider_keys_validate_at")
        batch_op.drop_index(batch_op.f("ix_provider_keys_master_key_id"))
        batch_op.drop_index(batch_op.f("ix_provider_keys_account_id"))

    op.drop_table("provider_keys")
    op.drop_table("processes")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index("ix_outbox_kind_due_at")

    op.drop_table("outbox")
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.drop_index("ix_ledger_surrogate_local_date")

    op.drop_table("ledger")
    op.drop_table("key_slots")
    op.drop_table("key_settings")
    with op.batch_alter_table("key_history", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_key_history_account_id"))

    op.drop_table("key_history")
    with op.batch_alter_table("data_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_data_keys_master_key_id"))

    op.drop_table("data_keys")
    op.drop_table("daily_usage")
    op.drop_table("credit_periods")
    op.drop_table("cooldowns")
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index("ix_attempts_state_process_id")

    op.drop_table("attempts")
    with op.batch_alter_table("analyses", schema=None) as batch_op:
        batch_op.drop_index("ix_analyses_state_process_id")
        batch_op.drop_index("ix_analyses_key_waits")
        batch_op.drop_index("ix_analyses_due_at", postgresql_where=sa.text("due_at IS NOT NULL"))

    op.drop_table("analyses")
    op.drop_table("accounts")
