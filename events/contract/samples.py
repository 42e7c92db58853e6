"""The events of the test vectors, as a publisher in any language would write them.

A sample that was released is never changed and never dropped (`docs/events.md`): the vectors'
file keeps it, and a changed event gets a sample under a new name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from events.contract.testkeys import SOURCE, WORKERS_SOURCE

ACCOUNT = "acct-0001"
OTHER_ACCOUNT = "acct-0002"
OPENAI_KEY_ID = "key-0001"
ANTHROPIC_KEY_ID = "key-0002"
REQUEST_ID = "req-0001"

TIME = "2026-01-15T12:00:00Z"
"""The `time` of every sample."""
NOW = "2026-01-15T12:00:30Z"
"""When the vectors are checked, where one does not say otherwise."""

FAKE_OPENAI = "sk-proj-sandbox-vectors-not-a-real-key-0001"
FAKE_ANTHROPIC = "sk-ant-api03-sandbox-vectors-not-a-real-key-0002"

MAIL = (
    '{"subject":"Mittagessen am Freitag? 🍽","from":"Zoë <zoe@example.org>",'
    '"to":"bob@example.org","cc":"","date":"Thu, 15 Jan 2026 11:58:00 +0000",'
    '"text":"Hi Bob,\\nshall we have lunch on Friday?\\nZoë","html":"",'
    '"headers":{"Content-Type":"text/plain; charset=utf-8"}}'
)
"""An analysis input as it is sealed."""

THREAD = (
    '{"own_address":"bob@example.org","messages":[{"from":"Zoë <zoe@example.org>",'
    '"to":"bob@example.org","cc":"","date":"Thu, 15 Jan 2026 11:58:00 +0000",'
    '"text":"Shall we have lunch on Friday?"}]}'
)
"""The same for `thread_state`."""

TEXT = '{"summary":"Zoë asks whether Bob would like to have lunch on Friday."}'
"""A result's free text as it is sealed to the subscriber."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One event that must be read."""

    name: str
    type: str
    data: Mapping[str, Any]
    source: str = SOURCE
    subject: str = ACCOUNT
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def event(self) -> dict[str, Any]:
        """The event before it is signed."""
        return {
            "specversion": "1.0",
            "id": f"evt-{self.name}",
            "source": self.source,
            "type": self.type,
            "time": TIME,
            "subject": self.subject,
            "datacontenttype": "application/json",
            **self.attributes,
            "data": dict(self.data),
        }


def samples(sealed: Mapping[str, str]) -> list[Sample]:
    """All samples; `sealed` are the values of the sealing vectors by name."""
    return [*_of_accounts(), *_of_keys(sealed), _of_analyses(sealed), *_of_usage()]


def _of_accounts() -> list[Sample]:
    period = {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}
    return [
        Sample(
            "account-updated",
            "byok.account.updated.v1",
            {
                "revision": 7,
                "plan": "business",
                "plan_status": "active",
                "ai_consent": True,
                "credits": 100,
                "credit_period": period,
                "timezone": "Europe/Lisbon",
                "custom_categories": [
                    {
                        "type": "category",
                        "key": "invoices",
                        "display_name": "Rechnungen, 請求書 💶",
                        "description": 'Line one\nline two, with "quotes" and a \\ in it',
                        "definition_prompt": "Mails that ask for money",
                        "keywords": ["invoice", "Überweisung"],
                        "sender_patterns": ["*@billing.example.org"],
                        "positive_examples": ["Your invoice of January"],
                        "negative_examples": ["Your newsletter"],
                        "confidence_threshold": 60,
                        "priority": 80,
                        "enabled": True,
                    }
                ],
                "category_overrides": [
                    {"type": "urgency", "key": "high", "description": None, "enabled": False}
                ],
                "budget_usd": "12.50",
            },
            # An extension of CloudEvents: the workers leave it alone, the signature covers it.
            attributes={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        ),
        Sample(
            "account-updated-edited-built-in",
            "byok.account.updated.v1",
            {
                "revision": 8,
                "plan": "pro",
                "ai_consent": True,
                "credits": 100,
                "credit_period": period,
                "category_overrides": [
                    {
                        "type": "category",
                        "key": "financial",
                        "display_name": "Geld",
                        "description": "Invoices and statements",
                        "definition_prompt": "Mails about money that is owed or paid",
                        "keywords": ["Rechnung"],
                        "sender_patterns": ["*@bank.example.org"],
                        "positive_examples": ["Your statement of January"],
                        "negative_examples": ["Save on loans"],
                        "confidence_threshold": 75,
                        "priority": 60,
                        "enabled": True,
                    }
                ],
            },
        ),
        Sample(
            "account-updated-shortest",
            "byok.account.updated.v1",
            {
                "revision": 9_007_199_254_740_991,
                "plan": "free",
                "ai_consent": False,
                "credits": None,
                "credit_period": period,
                "budget_usd": 12.5,
            },
        ),
        Sample("account-deleted", "byok.account.deleted.v1", {"revision": 8}),
    ]


def _of_keys(sealed: Mapping[str, str]) -> list[Sample]:
    return [
        Sample(
            "key-added",
            "byok.key.added.v1",
            {
                "revision": 9,
                "provider": "openai",
                "key_id": OPENAI_KEY_ID,
                "sealed_key": sealed["openai-key"],
                "allow_platform_fallback": True,
                "budget_usd": "0",
            },
            attributes={"replyto": "7f3c2a90"},
        ),
        Sample(
            "key-replaced",
            "byok.key.replaced.v1",
            {
                "revision": 10,
                "provider": "anthropic",
                "key_id": ANTHROPIC_KEY_ID,
                "sealed_key": sealed["anthropic-key"],
            },
        ),
        Sample(
            "key-updated",
            "byok.key.updated.v1",
            {
                "revision": 11,
                "key_id": ANTHROPIC_KEY_ID,
                "allow_platform_fallback": False,
                "budget_usd": None,
            },
        ),
        Sample("key-tested", "byok.key.tested.v1", {"key_id": ANTHROPIC_KEY_ID}),
        Sample(
            "key-removed",
            "byok.key.removed.v1",
            {"revision": 12, "provider": "anthropic", "key_id": ANTHROPIC_KEY_ID},
        ),
    ]


def _of_analyses(sealed: Mapping[str, str]) -> Sample:
    return Sample(
        "analysis-requested",
        "byok.analysis.requested.v1",
        {
            "request_id": REQUEST_ID,
            "operation": "classify",
            "provider": "auto",
            "model": "gpt-5.4-mini",
            "sealed_input": sealed["mail"],
            "expires_at": "2026-01-16T12:00:00+01:00",
        },
    )


def _of_usage() -> list[Sample]:
    row = {
        "id": "row-0001",
        "kind": "call",
        "surrogate": "surrogate-0001",
        "request_id": REQUEST_ID,
        "attempt": 1,
        "operation": "classify",
        "completes": True,
        "provider": "openai",
        "model": "gpt-5.4-mini",
        "credential": "byok",
        "key_id": OPENAI_KEY_ID,
        "fallback_reason": None,
        "input_tokens": 812,
        "cached_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 41,
        "reasoning_tokens": 0,
        "cost_nano_usd": 793_500,
        "priced": True,
        "price_version": "2026-01",
        "provider_request_id": None,
        "at": 1_768_478_400_000,
        "local_date": "2026-01-15",
    }
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return [
        Sample(
            name,
            "byok.usage.recorded.v1",
            {"rows": [given]},
            source=WORKERS_SOURCE,
            subject="byok",
        )
        for name, given in (("usage-recorded", row), ("usage-recorded-text", text))
    ]
