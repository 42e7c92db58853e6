"""Usage and cost: who pays for what, and whether the books keep up."""

from deploy.grafana.board import (
    RATE,
    Board,
    Row,
    Unit,
    by,
    gained,
    lines,
    most,
    quantile,
    stack,
)

_BILLED = f'sum(rate(byok_provider_calls_total{{credential="byok"}}[{RATE}]))'
_ALL = f"sum(rate(byok_provider_calls_total[{RATE}]))"

USAGE = Board(
    "usage",
    "BYOK: usage and cost",
    "Who pays for what, and whether the books keep up.",
    (
        Row(
            "Cost",
            (
                stack(
                    "Cost an hour",
                    "By provider and whose key pays.",
                    Unit.DOLLARS,
                    ("byok:cost_usd:rate1h * 3600", "{{provider}} {{credential}}"),
                ),
                stack(
                    "Cost an hour, by model",
                    "`other` is a model that the price table does not know.",
                    Unit.DOLLARS,
                    (by("model", "byok_cost_usd_total") + " * 3600", "{{model}}"),
                ),
                lines(
                    "Part of the calls on own keys",
                    "The rest is on the platform's.",
                    Unit.SHARE,
                    (f"{_BILLED} / {_ALL}", "own keys"),
                ),
                lines(
                    "Unpriced calls",
                    "On the ledger with a cost of 0.",
                    Unit.EACH_SECOND,
                    (by("provider", "byok_unpriced_calls_total"), "{{provider}}"),
                ),
            ),
        ),
        Row(
            "Tokens",
            (
                stack(
                    "Tokens, by direction",
                    "As the providers count them.",
                    Unit.EACH_SECOND,
                    (
                        by("provider, direction", "byok_tokens_total"),
                        "{{provider}} {{direction}}",
                    ),
                ),
                stack(
                    "Tokens, by model",
                    "Input and output.",
                    Unit.EACH_SECOND,
                    (by("model", "byok_tokens_total"), "{{model}}"),
                ),
                lines(
                    "Cached tokens",
                    "Of the input: read from the provider's prompt cache, or written to it.",
                    Unit.EACH_SECOND,
                    (by("provider, cache", "byok_cached_tokens_total"), "{{provider}} {{cache}}"),
                ),
            ),
        ),
        Row(
            "Budgets",
            (
                lines(
                    "Budgets near their cap or used up",
                    "Of keys, accounts and the platform, in this month.",
                    Unit.COUNT,
                    (most("scope, state", "byok_budgets"), "{{scope}} {{state}}"),
                ),
                lines(
                    "Skipped for want of a budget",
                    "Within five minutes, by whose budget.",
                    Unit.COUNT,
                    (gained("scope", "byok_budget_refused_total"), "{{scope}}"),
                ),
                lines(
                    "Used of the platform's budget",
                    "In this month; 0 without one.",
                    Unit.SHARE,
                    ("max(byok_platform_budget_share)", "used"),
                ),
            ),
        ),
        Row(
            "Credits and books",
            (
                lines(
                    "Platform fallbacks",
                    "Operations on the platform's key though the account has its own.",
                    Unit.EACH_SECOND,
                    (
                        by("provider, reason", "byok_platform_fallbacks_total"),
                        "{{provider}} {{reason}}",
                    ),
                ),
                lines(
                    "Refused for want of credits",
                    "Analyses that were skipped.",
                    Unit.EACH_SECOND,
                    (f"sum(rate(byok_credits_refused_total[{RATE}]))", "refused"),
                ),
                lines(
                    "Usage rows",
                    "Taken by the aggregator: new, repeated, or in conflict with the ledger.",
                    Unit.EACH_SECOND,
                    (by("outcome", "byok_usage_rows_total"), "{{outcome}}"),
                ),
                lines(
                    "How far the ledger is behind",
                    "From a row written to its place on the ledger.",
                    Unit.SECONDS,
                    (quantile(0.5, "byok_usage_lag_seconds"), "half"),
                    (quantile(0.99, "byok_usage_lag_seconds"), "99 of 100"),
                ),
            ),
        ),
    ),
)
