"""Billed validations: noted before they are sent, as attempts are, so that none is lost unseen.

They lie among the attempts, under a request id of their own. One whose process died is `unknown`
and is listed with the others: the provider may have billed it.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, insert

from store.schema import attempts

PREFIX = "~probe:"
"""How the request id of a probe begins, and no identifier in an event can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One billed validation. `number` is the validation's, of which a key has each once."""

    account_id: str
    key_id: str
    number: int

    @property
    def request_id(self) -> str:
        """Under what it lies among the attempts and on the ledger."""
        return f"{PREFIX}{self.key_id}:{self.number}"


def start(
    connection: Connection, probe: Probe, *, process_id: str, provider: str, model: str, now: int
) -> None:
    """Note that `process_id` is about to send a probe."""
    connection.execute(
        insert(attempts).values(
            account_id=probe.account_id,
            request_id=probe.request_id,
            attempt=probe.number,
            state="started",
            process_id=process_id,
            provider=provider,
            model=model,
            credential="byok",
            key_id=probe.key_id,
            started_at=now,
        )
    )
