"""The audit's last page: the provider sandbox's own bill, where the sandbox is the provider."""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import select

from deploy.local.sandbox import SandboxControl
from events import Provider
from store.audit import Audit, audit
from store.ledger import BILLED
from store.schema import attempts, ledger
from workers.app import App

CHECK = "sandbox bill"

TOKENS = ("input_tokens", "cached_read_tokens", "cache_write_tokens", "output_tokens")


def audit_all(app: App) -> Audit:
    """Audit the store, and against the sandbox's bill where the sandbox stands in for providers."""
    providers = [provider for provider in Provider if app.settings.uses_sandbox(provider)]
    control = _control(app) if providers else None
    before = control.billed_calls() if control else []
    with app.database.snapshot() as connection:
        found = audit(connection)
        rows = connection.execute(select(ledger).where(ledger.c.kind.in_(BILLED))).all()
        open_attempts = connection.execute(
            select(attempts.c.provider, attempts.c.credential).where(
                attempts.c.state.in_(("started", "unknown"))
            )
        ).all()
        waiting = _answered(connection)
    if control is not None:
        # The bill goes on meanwhile: what was on it before must be explained by the books, and
        # what the books have must be on it afterwards.
        compare(app, found, rows, waiting, open_attempts, before, control.billed_calls())
    return found


def _control(app: App) -> SandboxControl | None:
    try:
        return SandboxControl(app.settings.sandbox_url_file.read_text().strip())
    except FileNotFoundError:
        return None


def _answered(connection: Any) -> set[str]:
    """The providers' ids of attempts that were answered: their rows may still be on their way."""
    found = connection.execute(
        select(attempts.c.provider_request_id).where(
            attempts.c.state == "answered", attempts.c.provider_request_id.is_not(None)
        )
    )
    return set(found.scalars())


def compare(
    app: App,
    found: Audit,
    rows: Sequence[Any],
    answered: set[str],
    open_attempts: Sequence[Any],
    before: Sequence[dict[str, Any]],
    after: Sequence[dict[str, Any]],
) -> None:
    """Hold ledger rows against the bill, call by call and token by token.

    A sandbox remembers what it billed since it was started, and the ledger more than that.
    """
    since = min((call["at"] for call in after), default=None)
    compared = [row for row in rows if since is not None and row.at >= since * 1000]
    charged = {call["request_id"]: call for call in after}
    found.note(CHECK, len(after))
    for row in compared:
        call = charged.get(row.provider_request_id or "")
        if call is None:
            found.note(CHECK, 0, [(row.id, "is on the ledger and not on the bill")])
            continue
        off = [name for name in TOKENS if getattr(row, name) != call[name]]
        if off or (row.provider, row.model) != (call["provider"], call["model"]):
            found.note(
                CHECK, 0, [(row.id, f"differs from the bill in {', '.join(off) or 'model'}")]
            )
    booked = {row.provider_request_id for row in rows} | answered
    lost = Counter((attempt.provider, attempt.credential) for attempt in open_attempts)
    unexplained = Counter(_payer(app, call) for call in before if call["request_id"] not in booked)
    found.note(
        CHECK,
        0,
        (
            (
                f"{provider} {credential}",
                f"{count} billed calls are not on the ledger; answers that are not known: "
                + str(lost[provider, credential]),
            )
            for (provider, credential), count in sorted(unexplained.items())
            if count > lost[provider, credential]
        ),
    )


def _payer(app: App, call: dict[str, Any]) -> tuple[str, str]:
    platform = app.settings.platform_key(Provider(call["provider"]))
    digest = sha256(platform.get_secret_value().encode()).hexdigest() if platform else None
    return call["provider"], "platform" if call["key_digest"] == digest else "byok"
