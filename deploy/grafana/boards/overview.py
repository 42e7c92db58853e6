"""Is all well, and if not, where to look."""

from deploy.grafana.board import (
    Board,
    Row,
    Unit,
    by,
    figure,
    lines,
    most,
    quantile,
    stack,
    table,
)

OVERVIEW = Board(
    "overview",
    "BYOK: overview",
    "Whether all is well, and if not, where to look.",
    (
        Row(
            "Now",
            (
                figure(
                    "Parts that can be reached",
                    "Whether the exporter reaches broker, database and Redis.",
                    Unit.YES_NO,
                    (most("part", "byok_up"), "{{part}}"),
                ),
                figure(
                    "Processes",
                    "Processes that hold a lease.",
                    Unit.COUNT,
                    (most("role", "byok_processes"), "{{role}}"),
                ),
                figure(
                    "Valid keys",
                    "Keys that are connected and valid.",
                    Unit.COUNT,
                    (
                        'sum by (provider) (max by (provider, reason) (byok_keys{status="valid"}))',
                        "{{provider}}",
                    ),
                ),
                figure(
                    "Cost an hour",
                    "What the last hour cost, whoever pays.",
                    Unit.DOLLARS,
                    ("sum by (credential) (byok:cost_usd:rate1h) * 3600", "{{credential}}"),
                ),
                figure(
                    "Paused",
                    "What operators have paused, and not resumed.",
                    Unit.COUNT,
                    ("sum by (kind) (" + most("kind, name", "byok_paused") + ")", "{{kind}}"),
                ),
                figure(
                    "Answered without a call",
                    "Part of the completed analyses of the last hour that rules or an earlier "
                    "result answered.",
                    Unit.SHARE,
                    ("byok:answered_without_call:share1h", "rules and reuse"),
                ),
                figure(
                    "Platform's budget",
                    "Part of it that is used in this month; 0 without one.",
                    Unit.SHARE,
                    ("max(byok_platform_budget_share)", "used"),
                ),
                table(
                    "Alerts",
                    "What fires now. Each has a page in docs/runbooks.",
                    ('ALERTS{alertstate="firing"}', ""),
                ),
                table("Versions", "What runs.", ("byok_build_info", "")),
            ),
        ),
        Row(
            "Promises",
            (
                lines(
                    "How fast the error budgets go",
                    "Times too fast, over an hour; at 1 a budget lasts for its 30 days, at 14.4 "
                    "somebody is woken.",
                    Unit.COUNT,
                    ("byok:analyses:burn_rate1h", "analyses succeed"),
                    ("byok:analysis_speed:burn_rate1h", "analyses end within a minute"),
                    ("byok:changes:burn_rate1h", "changes are taken within 5 s"),
                ),
                stack(
                    "Analyses that end",
                    "By outcome.",
                    Unit.EACH_SECOND,
                    (by("outcome", "byok_analyses_total"), "{{outcome}}"),
                ),
                lines(
                    "Analysis duration",
                    "From accepted to ended, waiting included.",
                    Unit.SECONDS,
                    (quantile(0.5, "byok_analysis_duration_seconds"), "half of them"),
                    (quantile(0.99, "byok_analysis_duration_seconds"), "99 of 100"),
                ),
            ),
        ),
        Row(
            "Where it may hang",
            (
                lines(
                    "Oldest message",
                    "How long the oldest message of each queue waits on the broker.",
                    Unit.SECONDS,
                    (
                        most("queue", "byok_queue_oldest_age_seconds", 'place="broker"'),
                        "{{queue}}",
                    ),
                ),
                stack(
                    "Messages that wait",
                    "On the broker, by queue.",
                    Unit.COUNT,
                    (most("queue", "byok_queue_depth", 'place="broker"'), "{{queue}}"),
                ),
                lines(
                    "Breakers that are not closed",
                    "1 while calls of a provider are held back.",
                    Unit.COUNT,
                    (
                        "1 - " + most("provider", "byok_provider_breaker", 'state="closed"'),
                        "{{provider}}",
                    ),
                ),
            ),
        ),
    ),
)
