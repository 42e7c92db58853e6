"""The work itself, as statements that anybody would write: eight of them, in two transactions.

It keeps what the workers keep, in the same tables: the request with its input under the vault, the
attempt, the result, the usage row and the out-event. What it leaves out is what the workers are
for: rules, reuse, pacing, fences, gates, leases, credits.
"""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Update, insert, select, update
from sqlalchemy.sql.dml import Insert

from events import MailInput
from events.sealing import input_info
from store.schema import accounts, analyses, attempts, outbox, provider_keys
from store.vault import StoredKey, content_digest
from workers.analyses.operations import classify
from workers.app import App
from workers.providers.openai import _strict_schema

Statement = Select[Any] | Insert | Update


@dataclass(frozen=True, slots=True)
class Job:
    """One request, as it lies on the peer's queue."""

    account: str
    request_id: str
    sealed: str


def opened(app: App, job: Job) -> tuple[bytes, MailInput]:
    """The mail, in bytes and read."""
    ring = app.settings.sealing_key_ring
    payload = ring.open(job.sealed, input_info(job.account, job.request_id))
    return payload, MailInput.model_validate_json(payload)


def key_of(account: str) -> Statement:
    """The account's key, where the account consents."""
    return (
        select(provider_keys)
        .join(accounts, accounts.c.account_id == provider_keys.c.account_id)
        .where(
            provider_keys.c.account_id == account,
            provider_keys.c.status == "valid",
            accounts.c.ai_consent,
        )
    )


def claim(job: Job, encrypted: bytes, payload: bytes, key_id: str) -> list[Statement]:
    """The request and its attempt, started."""
    now = int(time.time() * 1000)
    return [
        insert(analyses).values(
            account_id=job.account,
            request_id=job.request_id,
            event_id=job.request_id,
            digest=content_digest(payload),
            operation="classify",
            provider_wanted="openai",
            input=encrypted,
            state="running",
            attempt=1,
            process_id="peer",
            created_at=now,
            expires_at=now + 86_400_000,
            credential="byok",
            key_id=key_id,
            provider="openai",
            model="gpt-5.4-mini",
            prompt_version=classify.prompt_version,
        ),
        insert(attempts).values(
            account_id=job.account,
            request_id=job.request_id,
            attempt=1,
            state="started",
            process_id="peer",
            provider="openai",
            model="gpt-5.4-mini",
            credential="byok",
            key_id=key_id,
            started_at=now,
        ),
    ]


def secret(app: App, account: str, row: Any) -> str:
    """The account's key, readable."""
    stored = StoredKey(
        master_key_id=row.master_key_id, wrapped_key=row.wrapped_key, ciphertext=row.ciphertext
    )
    return app.vault.open_key(stored, account=account, provider="openai", key_id=row.key_id)


def asked(mail: MailInput) -> dict[str, Any]:
    """The arguments of the SDK's call."""
    question = classify.question(mail, model="gpt-5.4-mini", categories=[], overrides=[])
    return {
        "model": question.model,
        "messages": [
            {"role": "system", "content": question.system},
            {"role": "user", "content": question.user},
        ],
        "response_format": {"type": "json_schema", "json_schema": _strict_schema(question.schema)},
        "max_completion_tokens": question.max_output_tokens,
    }


def completion(job: Job, answer: Any) -> list[Statement]:
    """The result, the attempt's end, the usage row and the out-event."""
    now = int(time.time() * 1000)
    result = json.loads(answer.choices[0].message.content)
    usage = {"input_tokens": answer.usage.prompt_tokens, "output": answer.usage.completion_tokens}
    mine = analyses.c.account_id == job.account, analyses.c.request_id == job.request_id
    its = attempts.c.account_id == job.account, attempts.c.request_id == job.request_id
    rows = [
        {
            "id": uuid.uuid4().hex,
            "kind": kind,
            "payload": json.dumps({"request_id": job.request_id, **content}),
            "created_at": now,
            "due_at": now,
        }
        for kind, content in (("usage", usage), ("event", result))
    ]
    return [
        update(attempts).where(*its).values(state="answered", outcome="ok", ended_at=now),
        update(analyses)
        .where(*mine)
        .values(
            state="completed",
            input=None,
            result=result,
            usage=usage,
            finished_at=now,
            process_id=None,
            answered_by="model",
        ),
        insert(outbox).values(rows),
    ]
