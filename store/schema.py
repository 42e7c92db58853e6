"""The tables. Times are Unix times in milliseconds (`*_at`), money is in nano-dollars.

The migrations in `store/migrations` make these tables; a test holds the two together.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

_ID = String(160)
_CODE = String(64)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


accounts = Table(
    "accounts",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("event_id", _ID, nullable=False),
    Column("deleted", Boolean, nullable=False),
    # Key events up to this revision are of a life that is over.
    Column("deleted_revision", BigInteger, nullable=False, server_default=text("-1")),
    Column("plan", _CODE, nullable=False),
    Column("plan_status", _CODE, nullable=False),
    Column("ai_consent", Boolean, nullable=False),
    Column("credits_limit", BigInteger),
    Column("period_start_at", BigInteger, nullable=False),
    Column("period_end_at", BigInteger, nullable=False),
    Column("timezone", _CODE, nullable=False),
    Column("custom_categories", JSON, nullable=False),
    Column("category_overrides", JSON, nullable=False),
    Column("budget_nano_usd", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
)

# What each deletion of an account destroyed: counts, and the ids of keys.
deletions = Table(
    "deletions",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    Column("event_id", _ID, nullable=False),
    Column("source", String(256), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("destroyed", JSON, nullable=False),
)

surrogates = Table(
    "surrogates",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("surrogate", _CODE, nullable=False, unique=True),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("scope", _ID, primary_key=True),
    Column("master_key_id", _CODE, nullable=False, index=True),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

key_slots = Table(
    "key_slots",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("provider", _CODE, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("event_id", _ID, nullable=False),
    Column("key_id", _ID),
)

key_settings = Table(
    "key_settings",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("key_id", _ID, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("event_id", _ID, nullable=False),
    Column("allow_platform_fallback", Boolean, nullable=False),
    Column("budget_nano_usd", BigInteger),
)

# Whose a key id is, and for which provider. It stays when its key is gone.
key_ids = Table(
    "key_ids",
    metadata,
    Column("key_id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("provider", _CODE, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("event_id", _ID, nullable=False),
)

provider_keys = Table(
    "provider_keys",
    metadata,
    Column("key_id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False, index=True),
    Column("provider", _CODE, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("status", _CODE, nullable=False),
    Column("reason", _CODE, nullable=False),
    Column("master_key_id", _CODE, index=True),
    Column("wrapped_key", LargeBinary),
    Column("ciphertext", LargeBinary),
    Column("last4", String(4), nullable=False),
    Column("fingerprint", LargeBinary),
    Column("added_at", BigInteger, nullable=False),
    Column("tested_at", BigInteger),
    Column("last_ok_at", BigInteger),
    Column("removed_at", BigInteger),
    _count("requests"),
    # How many of those are on months of the ledger that retention took.
    _count("requests_dropped"),
    # Fences verdicts: one that was asked for under another number changes nothing.
    _count("validation_no"),
    _count("validation_failures"),
    Column("validate_at", BigInteger),
    # Since when an analysis saw the key refused and no verdict has come since.
    Column("suspect_at", BigInteger),
)
Index("ix_provider_keys_validate_at", provider_keys.c.validate_at)
# Counting a million keys for the metrics reads this alone.
Index(
    "ix_provider_keys_counts",
    provider_keys.c.provider,
    provider_keys.c.status,
    provider_keys.c.reason,
    sqlite_where=provider_keys.c.removed_at.is_(None),
    postgresql_where=provider_keys.c.removed_at.is_(None),
)

key_history = Table(
    "key_history",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("account_id", _ID, nullable=False, index=True),
    Column("key_id", _ID, nullable=False),
    Column("cause", _CODE, nullable=False),
    Column("event_id", _ID, nullable=False),
    Column("source", String(256), nullable=False),
    Column("old_status", _CODE),
    Column("new_status", _CODE, nullable=False),
    Column("reason", _CODE, nullable=False),
)

waiting_events = Table(
    "waiting_events",
    metadata,
    Column("event_id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False, index=True),
    Column("queue", _CODE, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("until_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False, index=True),
)

analyses = Table(
    "analyses",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("request_id", _ID, primary_key=True),
    Column("event_id", _ID, nullable=False),
    # The revision of the account under which it was accepted: which of its lives it belongs to.
    Column("account_revision", BigInteger),
    Column("digest", LargeBinary, nullable=False),
    Column("operation", _CODE, nullable=False),
    Column("provider_wanted", _CODE, nullable=False),
    Column("model_wanted", String(100)),
    Column("input", LargeBinary),
    Column("state", _CODE, nullable=False),
    Column("reason", _CODE, nullable=False, server_default=text("''")),
    Column("due_at", BigInteger),
    _count("attempt"),
    _count("setbacks"),
    _count("bad_answers"),
    _count("refusals"),
    Column("process_id", _ID),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    # The credit period in which this request holds a reserved credit.
    Column("credit_period_at", BigInteger),
    # Whether an attempt of this request may still hold something of a budget.
    Column("budget_held", Boolean, nullable=False, server_default=false()),
    Column("credential", _CODE),
    Column("key_id", _ID),
    Column("provider", _CODE),
    Column("model", String(100)),
    Column("answered_by", _CODE),
    Column("fallback_reason", _CODE),
    Column("prompt_version", _CODE),
    Column("result", JSON(none_as_null=True)),
    Column("usage", JSON(none_as_null=True)),
    # Free text of the result, under the vault.
    Column("result_text", LargeBinary),
    # The trace that the request belongs to, as its publisher named it.
    Column("traceparent", String(55)),
    # What a result that a model gave may be reused for: keyed by the account, so it tells nothing.
    Column("reuse_digest", LargeBinary),
)
Index("ix_analyses_due_at", analyses.c.due_at, postgresql_where=analyses.c.due_at.is_not(None))
Index(
    "ix_analyses_finished_at",
    analyses.c.finished_at,
    postgresql_where=analyses.c.finished_at.is_not(None),
)
Index("ix_analyses_state_process_id", analyses.c.state, analyses.c.process_id)
Index(
    "ix_analyses_reuse_digest",
    analyses.c.reuse_digest,
    postgresql_where=analyses.c.reuse_digest.is_not(None),
)
# Which of the account's requests wait for a reason, the longest waiting first.
Index(
    "ix_analyses_waits",
    analyses.c.account_id,
    analyses.c.state,
    analyses.c.reason,
    analyses.c.created_at,
    analyses.c.request_id,
)

IS_PAUSED = text("substr(reason, 1, 6) = 'paused'")
"""What `ix_analyses_paused` holds. A query that says it to the letter is served by the index."""

Index(
    "ix_analyses_paused",
    analyses.c.reason,
    analyses.c.account_id,
    postgresql_where=IS_PAUSED,
    sqlite_where=IS_PAUSED,
)

attempts = Table(
    "attempts",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("request_id", _ID, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("state", _CODE, nullable=False),
    Column("outcome", _CODE),
    Column("process_id", _ID, nullable=False),
    Column("provider", _CODE, nullable=False),
    Column("model", String(100), nullable=False),
    Column("credential", _CODE, nullable=False),
    Column("key_id", _ID),
    Column("fallback_reason", _CODE),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("provider_request_id", String(200)),
)
Index("ix_attempts_state_process_id", attempts.c.state, attempts.c.process_id)

ENDED_PROBE = text("request_id LIKE '~probe:%' AND ended_at IS NOT NULL")
"""An ended billed validation, in the words of the index that finds the old ones."""
Index(
    "ix_attempts_ended_probes",
    attempts.c.ended_at,
    postgresql_where=ENDED_PROBE,
    sqlite_where=ENDED_PROBE,
)

processes = Table(
    "processes",
    metadata,
    Column("process_id", _ID, primary_key=True),
    Column("role", _CODE, nullable=False),
    Column("host", String(256), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("stopped_at", BigInteger),
)

credit_periods = Table(
    "credit_periods",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("period_start_at", BigInteger, primary_key=True),
    _count("used"),
    _count("reserved"),
    Column("exhausted_at", BigInteger),
)

cooldowns = Table(
    "cooldowns",
    metadata,
    Column("scope", _ID, primary_key=True),
    Column("until_at", BigInteger, nullable=False),
    Column("reason", _CODE, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("kind", _CODE, nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    _count("sends"),
)
Index("ix_outbox_kind_due_at", outbox.c.kind, outbox.c.due_at)

# Partitioned by month on PostgreSQL (`store.months`). The month follows from the id alone, so the
# primary key holds an id once over all partitions.
ledger = Table(
    "ledger",
    metadata,
    Column("id", _ID, primary_key=True),
    # YYYYMM in UTC, or 0 where the id does not tell when it was made.
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("kind", _CODE, nullable=False),
    Column("surrogate", _CODE, nullable=False),
    Column("request_id", _ID, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("operation", _CODE, nullable=False),
    Column("completes", Boolean, nullable=False),
    Column("provider", _CODE, nullable=False),
    Column("model", String(100), nullable=False),
    Column("credential", _CODE, nullable=False),
    Column("key_id", _ID),
    Column("fallback_reason", _CODE),
    _count("input_tokens"),
    _count("cached_read_tokens"),
    _count("cache_write_tokens"),
    _count("output_tokens"),
    _count("reasoning_tokens"),
    _count("cost_nano_usd"),
    Column("priced", Boolean, nullable=False),
    Column("price_version", _CODE, nullable=False),
    Column("provider_request_id", String(200)),
    # When it was billed, and the account's date then; when it came onto the ledger.
    Column("at", BigInteger, nullable=False),
    Column("local_date", String(10), nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    # SHA-256 of the row as it travels, in hex.
    Column("digest", String(64), nullable=False),
    postgresql_partition_by="LIST (month)",
)
Index("ix_ledger_surrogate_local_date", ledger.c.surrogate, ledger.c.local_date)

# The months that retention took off the ledger. Up to the last of them nothing is recorded.
ledger_dropped = Table(
    "ledger_dropped",
    metadata,
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("rows", BigInteger, nullable=False),
    Column("dropped_at", BigInteger, nullable=False),
)

daily_usage = Table(
    "daily_usage",
    metadata,
    Column("surrogate", _CODE, primary_key=True),
    Column("local_date", String(10), primary_key=True),
    Column("operation", _CODE, primary_key=True),
    Column("provider", _CODE, primary_key=True),
    Column("model", String(100), primary_key=True),
    Column("credential", _CODE, primary_key=True),
    _count("operations"),
    _count("calls"),
    _count("input_tokens"),
    _count("cached_read_tokens"),
    _count("cache_write_tokens"),
    _count("output_tokens"),
    _count("reasoning_tokens"),
    _count("cost_nano_usd"),
    _count("unpriced_calls"),
)

# What a key, an account or the platform spent in a calendar month (YYYY-MM).
budget_months = Table(
    "budget_months",
    metadata,
    Column("scope", _ID, primary_key=True),
    Column("month", String(7), primary_key=True),
    # On the ledger; billed and on the way to it; reserved for calls in flight.
    _count("spent_nano_usd"),
    _count("billed_nano_usd"),
    _count("reserved_nano_usd"),
    # When it was told that the budget is reached.
    Column("reached_at", BigInteger),
    # The highest cap at which it held a request back.
    Column("refused_cap_nano_usd", BigInteger),
)

IS_REACHED = budget_months.c.reached_at.is_not(None)
Index(
    "ix_budget_months_reached",
    budget_months.c.month,
    postgresql_where=IS_REACHED,
    sqlite_where=IS_REACHED,
)

# What one attempt holds of a budget, from its claim until its ledger row arrives.
budget_holds = Table(
    "budget_holds",
    metadata,
    Column("account_id", _ID, primary_key=True),
    Column("request_id", _ID, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("scope", _ID, primary_key=True),
    Column("month", String(7), nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("cap_nano_usd", BigInteger, nullable=False),
    # The ledger row that says what the attempt cost, once it has been billed.
    Column("row_id", _ID, index=True),
)

set_aside = Table(
    "set_aside",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("queue", _CODE, nullable=False),
    Column("reason", _CODE, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("event_id", _ID),
    Column("event_type", _ID),
    Column("account_id", _ID),
    # The message as it came, under the vault: it may hold what should not have been sent.
    Column("payload", LargeBinary, nullable=False),
)

# What an operator has stopped for a while.
pauses = Table(
    "pauses",
    metadata,
    Column("kind", _CODE, primary_key=True),
    Column("name", _ID, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("source", String(256), nullable=False),
    Column("note", Text, nullable=False),
    # Since when what waited comes back; null while it is paused.
    Column("resumed_at", BigInteger),
)

# What operators did to the system itself. Rows are only ever added.
operator_log = Table(
    "operator_log",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("source", String(256), nullable=False),
    Column("action", _CODE, nullable=False),
    Column("kind", _CODE, nullable=False),
    Column("name", _ID, nullable=False),
    Column("note", Text, nullable=False),
)
