"""The labels of metrics and the closed set of values of each.

What a set does not name becomes `other`, so no sender, user or provider can make series. The sets
are spelled out here, where an operator can read them and no import decides them; a test holds
them against the vocabularies of the code.
"""

from dataclasses import dataclass

OTHER = "other"
"""Stands for every value that a label's set does not name."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label and the values that it may have besides `other`."""

    name: str
    values: frozenset[str]


def label(name: str, *values: str) -> Label:
    """A label with its values."""
    return Label(name, frozenset(values))


QUEUE = label("queue", "accounts", "analyses", "keys", "usage", "validations")
PROVIDER = label("provider", "openai", "anthropic")
CREDENTIAL = label("credential", "byok", "platform", "none")
OPERATION = label("operation", "classify", "summarize", "reply", "thread_state", "probe")

EVENT_TYPE = label(
    "type",
    *(f"byok.account.{what}.v1" for what in ("updated", "deleted")),
    *(f"byok.key.{what}.v1" for what in ("added", "replaced", "updated", "tested", "removed")),
    "byok.analysis.requested.v1",
    "byok.usage.recorded.v1",
    "validate_key",
    "resume_analysis",
    "unread",
)
TAKEN = label("outcome", "taken", "refused", "set_aside")

ACTOR = label(
    "actor",
    *(f"{queue}_event" for queue in ("accounts", "analyses", "keys", "usage")),
    "validate_key",
    "resume_analysis",
    "take_in_analyses",
    "unreadable_message",
)
HANDLED = label("outcome", "done", "raised")

REFUSED = label(
    "reason",
    *("not_json", "not_cloudevent", "too_large", "invalid_event", "readable_key"),
    *("unknown_type", "unknown_version", "wrong_queue", "not_a_message"),
    *("unsigned", "unknown_source", "source_not_allowed", "bad_signature", "stale_signature"),
    *("seal_malformed", "seal_unknown_key", "seal_broken", "invalid_input"),
    *("id_conflict", "key_id_taken", "unknown_account", "vault_unreadable", "internal_error"),
    *("usage_conflict", "usage_expired", "before_restore"),
)
"""Why a message is set aside: the reasons of `events.contract.refusals`, and the workers' own."""

KEY_STATUS = label("status", "pending", "valid", "invalid", "removed")
KEY_REASON = label(
    "reason",
    *("ok", "no_quota", "rejected", "revoked", "deactivated", "restricted"),
    *("ip_not_allowed", "region", "malformed", "wrong_kind", "wrong_provider", "unreadable"),
    *("none", "plan_without_byok", "replaced", "removed", "account_deleted", "restored"),
)
OUTCOME_CLASS = label(
    "outcome",
    *("ok", "rejected", "restricted", "forbidden", "model_unavailable", "rate_limited"),
    *("no_quota", "unavailable", "bad_request", "bad_answer"),
)

ENDED = label("outcome", "completed", "failed", "skipped")
ANSWERED_BY = label("answered_by", "model", "rules", "reuse", "none")
END_REASON = label(
    "reason",
    "none",
    *(
        "consent",
        "credits",
        "budget",
        "account_deleted",
        "expired",
        "worker_lost",
        "internal_error",
    ),
    *("key_invalid", "key_no_quota", "key_pending", "key_refused", "platform_unavailable"),
    *("bad_answer", "bad_request", "model_unavailable", "answer_lost", "input_unreadable"),
    *("key_unreadable", "restored"),
)
"""Why an analysis failed or was skipped; `none` of one that completed."""

USERS_OWN = frozenset(
    {
        *("key_invalid", "key_no_quota", "key_refused", "key_unreadable"),
        *("bad_request", "model_unavailable"),
    }
)
"""Reasons for which an analysis fails that are the user's to mend."""

VERDICT = label("verdict", "good", "bad", "excused")
"""How the end of an analysis counts for what is promised: it completed, it failed by a fault of
ours or of a provider, or it is the user's to mend or was not to run."""


def verdict_of(outcome: str, reason: str) -> str:
    """The verdict on an analysis that ended with `outcome` for `reason`."""
    if outcome == "completed":
        return "good"
    return "bad" if outcome == "failed" and reason not in USERS_OWN else "excused"


PARK_REASON = label(
    "reason",
    "queued",
    *("account", "account_busy", "key_busy", "key_pending", "key_no_quota", "rate_limited"),
    *("provider_unavailable", "platform_key_refused", "platform_no_quota", "bad_answer"),
    *("worker_lost", "claim_unheard", "unknown_attempt_held", "master_key_unavailable"),
    *("paused_openai", "paused_anthropic", "paused_account"),
)
"""Why an analysis waits; `queued` of one that waits for a worker alone."""

CALL_REASON = label(
    "reason",
    "ok",
    *("invalid_api_key", "revoked", "deactivated", "expired", "missing_scope"),
    *("permission_denied", "restricted", "ip_not_allowed", "region", "model_not_found"),
    *("rate_limit_exceeded", "slow_down", "ramp_limit_exceeded", "insufficient_quota"),
    *("credit_balance_exhausted", "organization_spend_limit_exceeded"),
    *("project_spend_limit_exceeded", "organization_usage_limit_exceeded"),
    *("usage_limit_exceeded", "billing_not_active", "billing_hard_limit_reached"),
    *("billing_error", "enforced_spend_limit_reached", "contract_spend_limit_reached"),
    *("linked_organization_spend_limit_reached", "linked_organization_billing_unavailable"),
    *("server_error", "overloaded", "timeout", "connect_error", "tls_error"),
    *("connection_lost", "malformed", "redirect", "not_found", "conflict", "unexpected"),
    *("invalid_request", "context_length_exceeded", "request_too_large", "content_policy"),
    *("refusal", "content_filter", "length", "empty", "off_schema"),
    *("off_vocabulary", "key_unreadable", "master_key_unavailable", "platform_unavailable"),
    "internal_error",
)
"""How a call ended: `workers.providers.codes.Code`, and why one was not sent."""

FALLBACK = label("reason", "plan", "provider_outage", "key_invalid", "key_no_quota", "key_pending")
DIRECTION = label("direction", "input", "output")
CACHE = label("cache", "read", "write")
LIMIT = label("limit", "requests", "tokens")
RECORDED = label("outcome", "new", "repeated", "conflicting", "expired")
BUDGET = label("scope", "key", "account", "platform")
BUDGET_STATE = label("state", "near", "used_up")
KEPT = label("kind", "requests", "probes", "set_aside", "processes", "events", "ledger_months")
"""What is kept for a while and erased then."""
KEPT_IN_STORE = label("kind", "requests", "probes", "set_aside", "processes")
OUTBOX_KIND = label("kind", "usage", "event", "rewrite")
SWEEP = label(
    "sweep",
    *("relay_usage", "relay_events", "rewrite_queue_file", "due_analyses", "due_validations"),
    *("due_waiting_events", "dead_processes", "orphaned_requests", "lost_attempts"),
    *("past_cooldowns", "ledger_months", "paused_requests", "kept_no_longer"),
)
PAUSED_KIND = label("kind", "provider", "account", "queue")
PAUSED = label("name", *PROVIDER.values, *QUEUE.values, "account")
"""What is paused: a provider, a queue, or some `account`, whichever it is."""
UNOPENED = label("reason", "DoesNotOpen", "MasterKeyMissing", "MasterKeyUnavailable")
ROLE = label("role", "worker", "scheduler")
PART = label("part", "broker", "database", "redis")
PLACE = label("place", "broker", "taken", "store")
BREAKER = label("state", "closed", "open", "probing")
TURN = label("turn", "opened", "closed")
OUTAGE = label("part", "database", "master_key", "lease")
SOURCE = label("source", "broker", "database", "counts", "redis")
"""What gauges are read from together; `counts` are those that read many rows."""
