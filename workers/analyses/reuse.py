"""Reuse: an account that asks the same again gets the answer that it got before, and no call.

The same is: the same operation in the same wording, of the same provider and model, wanted or
configured, with the same own categories where they matter, about the same content. What is
compared is a digest under the account's own data key, so that a stolen database cannot be searched
for a known mail.
"""

import hashlib
import json
from collections.abc import Iterable

from sqlalchemy import Connection

from events import MailInput, Operation, Provider
from events.analyses import AnalysisInput
from store import accounts, analyses
from store.masterkeys import DoesNotOpen
from store.vault import AccountVault
from workers.analyses import texts
from workers.analyses.categories import own_categories
from workers.analyses.characters import clean
from workers.analyses.ending import Found
from workers.analyses.operations import operation_of
from workers.app import App

_HOUR_MS = 3_600_000


def content_of(given: AnalysisInput) -> bytes:
    """A digest of what of `given` could be sent, for `digest_of`.

    White space, empty lines and invisible characters make no difference; a mail's date and rule
    headers, which are never sent, make none either. Measured: 3 ms for 90 kB of prose, 16 ms for
    the worst of what an event can hold.
    """
    return hashlib.sha256(json.dumps([_tidy(part) for part in _parts(given)]).encode()).digest()


def digest_of(
    app: App,
    vault: AccountVault,
    account: accounts.Account,
    request: analyses.NewRequest | analyses.Request,
    content: bytes,
) -> bytes | None:
    """What a result of this request may be reused for; `None` where reuse is switched off."""
    if not app.settings.reuse_hours:
        return None
    operation = operation_of(Operation(request.operation))
    own = [list(own_categories(app, account)), account.category_overrides]
    models = [app.settings.model(provider, operation.name) for provider in Provider]
    question = [
        "reuse",
        request.operation,
        operation.prompt_version,
        request.provider_wanted,
        request.model_wanted or models,
        own if operation.uses_categories else None,
        content.hex(),
    ]
    return vault.digest(json.dumps(question, sort_keys=True).encode())


def reusable_from(app: App) -> int:
    """What was finished before this moment (Unix ms) is not reused."""
    return app.effects.now_ms() - int(app.settings.reuse_hours * _HOUR_MS)


def earlier(
    app: App, connection: Connection, request: analyses.Request, digest: bytes | None
) -> Found | None:
    """The newest result for `digest` that is not too old, where there is one."""
    if digest is None:
        return None
    oldest = reusable_from(app)
    source = analyses.find_reusable(connection, request.account_id, digest, oldest)
    if source is None:
        return None
    said: dict[str, str] = {}
    if source.text is not None:
        try:
            said = texts.opened(app, connection, request.account_id, source.request_id, source.text)
        except DoesNotOpen:
            app.instruments.vault_failures.labels(DoesNotOpen.__name__).inc()
            return None
    return Found(signals=source.result, texts=said, reused_from=source.request_id)


def _parts(given: AnalysisInput) -> Iterable[str]:
    if isinstance(given, MailInput):
        return (given.subject, given.sender, given.to, given.cc, given.text, given.html)
    messages = ((m.sender, m.to, m.cc, m.date, m.text) for m in given.messages)
    return (given.own_address, *(part for message in messages for part in message))


def _tidy(text: str) -> list[str]:
    lines = (" ".join(line.split()) for line in clean(text).split("\n"))
    return [line for line in lines if line]
