"""The life of keys: how many are valid, what turns them, whether they are looked at in time."""

from deploy.grafana.board import Board, Row, Unit, by, lines, most, quantile, stack

KEYS = Board(
    "keys",
    "BYOK: keys",
    "How many keys are valid, what turns them, whether they are validated in time.",
    (
        Row(
            "What there is",
            (
                stack(
                    "Keys, by status",
                    "Keys that are connected.",
                    Unit.COUNT,
                    (
                        "sum by (provider, status) (max by (provider, status, reason) (byok_keys))",
                        "{{provider}} {{status}}",
                    ),
                ),
                stack(
                    "Keys that are not fine, by reason",
                    "Invalid ones, and valid ones without quota.",
                    Unit.COUNT,
                    (
                        most("provider, reason", "byok_keys", 'reason!~"ok|none"'),
                        "{{provider}} {{reason}}",
                    ),
                ),
                lines(
                    "Status changes",
                    "By the status and the reason that a key moved to.",
                    Unit.EACH_SECOND,
                    (
                        by("status, reason", "byok_key_status_changes_total") + " > 0",
                        "{{status}} {{reason}}",
                    ),
                ),
            ),
        ),
        Row(
            "Validation",
            (
                stack(
                    "Validations, by outcome",
                    "What the providers said.",
                    Unit.EACH_SECOND,
                    (
                        by("provider, outcome", "byok_key_validations_total"),
                        "{{provider}} {{outcome}}",
                    ),
                ),
                lines(
                    "Validations due and late",
                    "Late is what has been due for more than five minutes.",
                    Unit.COUNT,
                    (most("provider", "byok_key_validations_due"), "{{provider}} due"),
                    (most("provider", "byok_key_validations_late"), "{{provider}} late"),
                ),
                lines(
                    "Time to the first verdict",
                    "From a key added or replaced to Valid or Invalid.",
                    Unit.SECONDS,
                    (quantile(0.5, "byok_key_proof_seconds", "provider"), "{{provider}} half"),
                    (
                        quantile(0.99, "byok_key_proof_seconds", "provider"),
                        "{{provider}} 99 of 100",
                    ),
                ),
                lines(
                    "Duration of a validation",
                    "How long the providers take over one.",
                    Unit.SECONDS,
                    (
                        quantile(0.5, "byok_key_validation_duration_seconds", "provider"),
                        "{{provider}} half",
                    ),
                    (
                        quantile(0.99, "byok_key_validation_duration_seconds", "provider"),
                        "{{provider}} 99 of 100",
                    ),
                ),
                lines(
                    "Stored values that do not open",
                    "By reason: altered or moved, or without their master key.",
                    Unit.EACH_SECOND,
                    (by("reason", "byok_vault_failures_total"), "{{reason}}"),
                ),
            ),
        ),
    ),
)
