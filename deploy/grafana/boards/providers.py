"""The providers: how their calls end, how long they take, what holds them back."""

from deploy.grafana.board import RATE, Board, Row, Unit, by, gained, lines, most, quantile, stack

_UNUSABLE = 'outcome=~"unavailable|bad_answer"'

PROVIDERS = Board(
    "providers",
    "BYOK: providers",
    "How calls end, how long they take, what holds them back.",
    (
        Row(
            "Calls",
            (
                stack(
                    "Calls, by outcome",
                    "Calls for analyses.",
                    Unit.EACH_SECOND,
                    (
                        by("provider, outcome", "byok_provider_calls_total"),
                        "{{provider}} {{outcome}}",
                    ),
                ),
                lines(
                    "Failed calls, by reason",
                    "Within five minutes: the providers' own codes where they are known ones.",
                    Unit.COUNT,
                    (
                        gained(
                            "provider, credential, reason",
                            "byok_provider_calls_total",
                            'outcome!="ok"',
                        ),
                        "{{provider}} {{credential}} {{reason}}",
                    ),
                ),
                lines(
                    "Part of the calls that bring no usable answer",
                    "What the provider is to blame for.",
                    Unit.SHARE,
                    (
                        by("provider", "byok_provider_calls_total", _UNUSABLE)
                        + " / "
                        + by("provider", "byok_provider_calls_total"),
                        "{{provider}}",
                    ),
                ),
                lines(
                    "Call duration",
                    "Failed calls included.",
                    Unit.SECONDS,
                    (
                        quantile(0.5, "byok_provider_call_duration_seconds", "provider"),
                        "{{provider}} half",
                    ),
                    (
                        quantile(0.99, "byok_provider_call_duration_seconds", "provider"),
                        "{{provider}} 99 of 100",
                    ),
                ),
            ),
        ),
        Row(
            "What holds them back",
            (
                lines(
                    "Breaker",
                    "1 for the state that it is in.",
                    Unit.COUNT,
                    (most("provider, state", "byok_provider_breaker"), "{{provider}} {{state}}"),
                ),
                lines(
                    "Turns of the breaker",
                    "How often it opened or closed within an hour.",
                    Unit.COUNT,
                    (
                        "sum by (provider, turn) (increase(byok_provider_breaker_turns_total[1h]))",
                        "{{provider}} {{turn}}",
                    ),
                ),
                lines(
                    "Left of the platform's rate limits",
                    "As the provider said at its latest answer.",
                    Unit.COUNT,
                    (
                        "min by (provider, limit) (byok_provider_limit_left)",
                        "{{provider}} {{limit}}",
                    ),
                ),
                lines(
                    "Held back by rate limits",
                    "Analyses that wait for a key's limit or its busy permits.",
                    Unit.COUNT,
                    (
                        most("reason", "byok_analyses_waiting", 'reason=~"rate_limited|key_busy"'),
                        "{{reason}}",
                    ),
                ),
                lines(
                    "Calls unpaced",
                    "Let through because Redis was away.",
                    Unit.EACH_SECOND,
                    (f"sum(rate(byok_unpaced_calls_total[{RATE}]))", "unpaced"),
                ),
            ),
        ),
    ),
)
