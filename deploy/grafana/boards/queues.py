"""The queues from inside: waits, what is set aside, the outbox, and what broke."""

from deploy.grafana.board import RATE, Board, Row, Unit, by, gained, lines, most, quantile, stack

QUEUES = Board(
    "queues",
    "BYOK: queue internals",
    "Waits, what is set aside, the outbox, and what broke.",
    (
        Row(
            "Queues",
            (
                stack(
                    "Messages, by queue and place",
                    "On the broker, taken and not acknowledged, or due in the store.",
                    Unit.COUNT,
                    (most("queue, place", "byok_queue_depth"), "{{queue}} {{place}}"),
                ),
                lines(
                    "Oldest, by queue and place",
                    "Since it was sent, or since it was due.",
                    Unit.SECONDS,
                    (most("queue, place", "byok_queue_oldest_age_seconds"), "{{queue}} {{place}}"),
                ),
                stack(
                    "Messages taken",
                    "By queue and what became of them.",
                    Unit.EACH_SECOND,
                    (by("queue, outcome", "byok_events_total"), "{{queue}} {{outcome}}"),
                ),
                lines(
                    "Wait until taken",
                    "From sent to a worker's thread, 99 of 100.",
                    Unit.SECONDS,
                    (quantile(0.99, "byok_queue_wait_seconds", "queue"), "{{queue}}"),
                ),
                lines(
                    "Message duration",
                    "How long a thread has a message, 99 of 100.",
                    Unit.SECONDS,
                    (quantile(0.99, "byok_message_duration_seconds", "actor"), "{{actor}}"),
                ),
            ),
        ),
        Row(
            "Set aside",
            (
                lines(
                    "Messages set aside",
                    "As they come, by reason.",
                    Unit.EACH_SECOND,
                    (by("queue, reason", "byok_set_aside_total") + " > 0", "{{queue}} {{reason}}"),
                ),
                stack(
                    "Kept",
                    "What is set aside and neither retried nor dropped.",
                    Unit.COUNT,
                    (most("queue, reason", "byok_set_aside_messages"), "{{queue}} {{reason}}"),
                ),
            ),
        ),
        Row(
            "Outbox",
            (
                stack(
                    "Rows in the outbox",
                    "By kind.",
                    Unit.COUNT,
                    (most("kind", "byok_outbox_rows"), "{{kind}}"),
                ),
                lines(
                    "Oldest row in the outbox",
                    "By kind.",
                    Unit.SECONDS,
                    (most("kind", "byok_outbox_oldest_age_seconds"), "{{kind}}"),
                ),
                lines(
                    "Rows sent on",
                    "By kind.",
                    Unit.EACH_SECOND,
                    (by("kind", "byok_outbox_relayed_total"), "{{kind}}"),
                ),
            ),
        ),
        Row(
            "Kept and paused",
            (
                lines(
                    "Paused for",
                    "How long the longest pause of each has lasted.",
                    Unit.SECONDS,
                    (most("kind, name", "byok_paused_seconds"), "{{kind}} {{name}}"),
                ),
                lines(
                    "Kept too long",
                    "For how long the oldest should have been erased.",
                    Unit.SECONDS,
                    (most("kind", "byok_kept_too_long_seconds"), "{{kind}}"),
                ),
                lines(
                    "Erased",
                    "Within five minutes, because it was kept long enough.",
                    Unit.COUNT,
                    (gained("kind", "byok_erased_total"), "{{kind}}"),
                ),
                lines(
                    "Last looked for what is to be erased",
                    "How long ago a scheduler did, and left nothing.",
                    Unit.SECONDS,
                    (
                        "time() - " + most("kind", "byok_erased_last_run_timestamp_seconds"),
                        "{{kind}}",
                    ),
                ),
            ),
        ),
        Row(
            "What broke",
            (
                lines(
                    "Processes taken over",
                    "Dead or frozen ones, within an hour.",
                    Unit.COUNT,
                    ("sum(increase(byok_lease_takeovers_total[1h]))", "taken over"),
                ),
                lines(
                    "Answers lost",
                    "Calls whose answer did not come, within an hour, and answers that came late.",
                    Unit.COUNT,
                    ("sum(increase(byok_attempts_unknown_total[1h]))", "lost"),
                    ("sum(increase(byok_late_answers_total[1h]))", "late"),
                    ("max(byok_attempts_unknown)", "unknown in the store"),
                ),
                lines(
                    "Sweeps that failed",
                    "By sweep of the scheduler.",
                    Unit.EACH_SECOND,
                    (by("sweep", "byok_sweep_failures_total"), "{{sweep}}"),
                ),
                lines(
                    "Waits for what is away",
                    "Of workers with a message in hand.",
                    Unit.EACH_SECOND,
                    (by("part", "byok_outage_waits_total"), "{{part}}"),
                ),
                lines(
                    "Age of the gauges",
                    "How long ago the exporter read what it shows.",
                    Unit.SECONDS,
                    (most("source", "byok_gauges_age_seconds"), "{{source}}"),
                ),
                lines(
                    "Unknown label values",
                    "Counted as `other`, by metric.",
                    Unit.EACH_SECOND,
                    (
                        f"sum(rate(byok_label_values_replaced_total[{RATE}]))",
                        "replaced",
                    ),
                ),
            ),
        ),
    ),
)
