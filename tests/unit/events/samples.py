"""One valid event of each incoming type, as the JSON that travels."""

from copy import deepcopy
from typing import Any

SAMPLES: dict[str, dict[str, Any]] = {
    "byok.account.updated.v1": {
        "revision": 7,
        "plan": "business",
        "plan_status": "active",
        "ai_consent": True,
        "credits": 100,
        "credit_period": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"},
        "timezone": "Europe/Lisbon",
        "custom_categories": [
            {
                "type": "category",
                "key": "invoices",
                "display_name": "Invoices",
                "keywords": ["invoice"],
                "confidence_threshold": 60,
            }
        ],
        "category_overrides": [{"type": "category", "key": "spam", "enabled": False}],
        "budget_usd": "12.50",
    },
    "byok.account.deleted.v1": {"revision": 8},
    "byok.key.added.v1": {
        "revision": 9,
        "provider": "openai",
        "key_id": "key-1",
        "sealed_key": "v1.s1.AAAA",
        "allow_platform_fallback": True,
    },
    "byok.key.replaced.v1": {
        "revision": 10,
        "provider": "anthropic",
        "key_id": "key-2",
        "sealed_key": "v1.s1.AAAA",
    },
    "byok.key.updated.v1": {
        "revision": 11,
        "key_id": "key-2",
        "allow_platform_fallback": False,
        "budget_usd": 3,
    },
    "byok.key.tested.v1": {"key_id": "key-2"},
    "byok.key.removed.v1": {"revision": 12, "provider": "anthropic", "key_id": "key-2"},
    "byok.analysis.requested.v1": {
        "request_id": "req-1",
        "operation": "classify",
        "provider": "auto",
        "model": "gpt-unit-1",
        "sealed_input": "v1.s1.AAAA",
        "expires_at": "2026-01-02T00:00:00+01:00",
    },
    "byok.usage.recorded.v1": {"rows": [{"id": "row-1", "key_id": None}]},
}


def event(kind: str, data: Any = None, **attributes: Any) -> dict[str, Any]:
    """A whole event of `kind`; `data` and `attributes` replace what it says."""
    return {
        "specversion": "1.0",
        "id": "evt-1",
        "source": "upstream/tests",
        "type": kind,
        "time": "2026-01-01T12:00:00Z",
        "subject": "acme",
        "datacontenttype": "application/json",
        "data": deepcopy(SAMPLES[kind]) if data is None else data,
    } | attributes


def event_with(kind: str, **changes: Any) -> dict[str, Any]:
    """A whole event of `kind` with some of its data changed."""
    return event(kind, SAMPLES[kind] | changes)
