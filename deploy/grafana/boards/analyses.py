"""The life of analyses: what ends how, what waits for what."""

from deploy.grafana.board import RATE, Board, Row, Unit, by, gained, lines, most, quantile, stack

_WITHOUT = 'outcome="completed",answered_by=~"rules|reuse"'
_COMPLETED = f'sum(rate(byok_analyses_total{{outcome="completed"}}[{RATE}]))'

ANALYSES = Board(
    "analyses",
    "BYOK: analyses",
    "What ends how, and what waits for what.",
    (
        Row(
            "What ends",
            (
                stack(
                    "Analyses, by operation",
                    "That ended, whatever their outcome.",
                    Unit.EACH_SECOND,
                    (by("operation", "byok_analyses_total"), "{{operation}}"),
                ),
                stack(
                    "Completed, by what answered",
                    "A model, the rules, or an earlier result.",
                    Unit.EACH_SECOND,
                    (
                        by("answered_by", "byok_analyses_total", 'outcome="completed"'),
                        "{{answered_by}}",
                    ),
                ),
                stack(
                    "Completed, by whose key paid",
                    "Own keys, the platform's, or none.",
                    Unit.EACH_SECOND,
                    (
                        by("credential", "byok_analyses_total", 'outcome="completed"'),
                        "{{credential}}",
                    ),
                ),
                lines(
                    "Answered without a call",
                    "Part of the completed, by rules or an earlier result.",
                    Unit.SHARE,
                    (
                        by("answered_by", "byok_analyses_total", _WITHOUT)
                        + f" / scalar({_COMPLETED})",
                        "{{answered_by}}",
                    ),
                ),
                lines(
                    "Failed, by reason",
                    "Within five minutes: faults of ours, and what is the user's to mend.",
                    Unit.COUNT,
                    (gained("reason", "byok_analyses_total", 'outcome="failed"'), "{{reason}}"),
                ),
                lines(
                    "Skipped, by reason",
                    "Within five minutes: what the product's rules do not let run.",
                    Unit.COUNT,
                    (gained("reason", "byok_analyses_total", 'outcome="skipped"'), "{{reason}}"),
                ),
                lines(
                    "Duration, by operation",
                    "From accepted to ended, of what completed.",
                    Unit.SECONDS,
                    (
                        quantile(
                            0.5,
                            "byok_analysis_duration_seconds",
                            "operation",
                            'outcome="completed"',
                        ),
                        "{{operation}} half",
                    ),
                    (
                        quantile(
                            0.99,
                            "byok_analysis_duration_seconds",
                            "operation",
                            'outcome="completed"',
                        ),
                        "{{operation}} 99 of 100",
                    ),
                ),
            ),
        ),
        Row(
            "What waits",
            (
                stack(
                    "Running",
                    "Attempts under way, by provider and whose key pays.",
                    Unit.COUNT,
                    (
                        most("provider, credential", "byok_analyses_running"),
                        "{{provider}} {{credential}}",
                    ),
                ),
                stack(
                    "Waiting, by reason",
                    "Analyses in the store that have not ended and do not run.",
                    Unit.COUNT,
                    (most("reason", "byok_analyses_waiting"), "{{reason}}"),
                ),
                lines(
                    "Oldest that has not ended",
                    "How long ago it was accepted, by why it waits.",
                    Unit.SECONDS,
                    (most("reason", "byok_analyses_oldest_age_seconds"), "{{reason}}"),
                ),
                lines(
                    "Parked, by reason",
                    "How often analyses were put off.",
                    Unit.EACH_SECOND,
                    (by("reason", "byok_analyses_parked_total"), "{{reason}}"),
                ),
            ),
        ),
    ),
)
