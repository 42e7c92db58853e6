"""Provider keys: one active key per account and provider, as the highest revision says.

`key_slots` is a last-writer-wins register per account and provider, `key_settings` one per key.
Both may be written before the key they speak of is known, so that every interleaving and
repetition of the same events ends in the same state.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, false, func, or_, select, update

from store.accounts import NANO
from store.schema import key_history, key_ids, key_settings, key_slots, provider_keys
from store.statements import insert_into, upsert_newer
from store.vault import StoredKey

UNTIL_TOLD = "restored"
"""The reason of a key that waits for upstream's word after a backup was restored."""

RESEND_SECONDS = 60
"""A validation that was asked for and not heard of is asked for again after this."""

OK_SECONDS = 60
"""How exactly it is known when real traffic last proved a key."""

QUOTA_PROBE_SECONDS = 15 * 60
"""A key without quota is probed again after this."""

FIRST_LOOK_SECONDS = 5
"""The scheduler has a new key validated after this, if the message after the commit was lost."""


SHOWN_FROM = 20
"""Of a shorter key not even the last four characters are shown; the providers' have 51 or more."""


class KeyIdTaken(ValueError):
    """The key id belongs to another account, or to a later key for the other provider."""

    def __init__(self) -> None:
        super().__init__(
            "The key id belongs to another account or provider: give every key an id of its own."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A provider key without its secret. Times are Unix ms."""

    key_id: str
    account_id: str
    provider: str
    revision: int
    status: str
    reason: str
    last4: str
    added_at: int
    tested_at: int | None
    last_ok_at: int | None
    removed_at: int | None
    requests: int
    validation_no: int
    validation_failures: int
    suspect_at: int | None
    allow_platform_fallback: bool
    budget_nano_usd: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A key moved from one status or reason to another."""

    account_id: str
    key_id: str
    provider: str
    revision: int
    old_status: str | None
    new_status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who or what changes a key's state; it is written into the key's history."""

    name: str
    event_id: str
    source: str
    history_id: str
    now: int


def take_slot(
    connection: Connection,
    account_id: str,
    provider: str,
    *,
    key_id: str | None,
    revision: int,
    event_id: str,
) -> bool:
    """Let `key_id` (or nothing) be the account's key where (revision, event id) is higher."""
    return upsert_newer(
        connection,
        key_slots,
        {
            "account_id": account_id,
            "provider": provider,
            "revision": revision,
            "event_id": event_id,
            "key_id": key_id,
        },
    )


def set_settings(
    connection: Connection,
    account_id: str,
    key_id: str,
    *,
    revision: int,
    event_id: str,
    allow_platform_fallback: bool,
    budget_usd: Decimal | None,
) -> bool:
    """Take over a key's settings where (revision, event id) is higher; whether they were."""
    return upsert_newer(
        connection,
        key_settings,
        {
            "account_id": account_id,
            "key_id": key_id,
            "revision": revision,
            "event_id": event_id,
            "allow_platform_fallback": allow_platform_fallback,
            "budget_nano_usd": None if budget_usd is None else int(budget_usd * NANO),
        },
    )


def last4_of(api_key: str) -> str:
    """What of a key is shown: its last four characters, or nothing where it is too short for that.

    Four of twelve that nobody knows would be a good part of the secret.
    """
    return api_key[-4:] if len(api_key) >= SHOWN_FROM else ""


def claim_id(
    connection: Connection,
    account_id: str,
    key_id: str,
    provider: str,
    *,
    revision: int,
    event_id: str,
) -> str:
    """Let `key_id` be for `provider` where (revision, event id) is higher; which one it is for now.

    A key id is its account's for ever. Raises `KeyIdTaken` where it is another account's.
    """
    values = {
        "key_id": key_id,
        "account_id": account_id,
        "provider": provider,
        "revision": revision,
        "event_id": event_id,
    }
    upsert_newer(connection, key_ids, values, fixed=("account_id",))
    refuse_foreign_id(connection, account_id, key_id)
    return str(
        connection.execute(
            select(key_ids.c.provider).where(key_ids.c.key_id == key_id)
        ).scalar_one()
    )


def refuse_foreign_id(connection: Connection, account_id: str, key_id: str) -> None:
    """Raise `KeyIdTaken` where `key_id` is another account's."""
    owner = connection.execute(
        select(key_ids.c.account_id).where(key_ids.c.key_id == key_id)
    ).scalar_one_or_none()
    if owner not in (None, account_id):
        raise KeyIdTaken


def put(
    connection: Connection,
    *,
    account_id: str,
    provider: str,
    key_id: str,
    revision: int,
    status: str,
    reason: str,
    stored: StoredKey | None,
    fingerprint: bytes | None,
    last4: str,
    validate_at: int | None,
    cause: Cause,
) -> StatusChange:
    """Write a key that took its slot. A key whose shape is wrong is kept without its secret."""
    row = {
        "key_id": key_id,
        "account_id": account_id,
        "provider": provider,
        "revision": revision,
        "status": status,
        "reason": reason,
        "master_key_id": stored and stored.master_key_id,
        "wrapped_key": stored and stored.wrapped_key,
        "ciphertext": stored and stored.ciphertext,
        "last4": last4,
        "fingerprint": fingerprint,
        "added_at": cause.now,
        "tested_at": None if stored else cause.now,
        "last_ok_at": None,
        "removed_at": None,
        "validate_at": validate_at,
        "validation_failures": 0,
        "suspect_at": None,
    }
    insert = insert_into(connection, provider_keys)
    old = find(connection, key_id)
    # Where a removed key's id comes again, its validation number goes on counting: a verdict
    # on the old secret must not touch the new one.
    connection.execute(
        insert.values(**row, validation_no=1).on_conflict_do_update(
            index_elements=["key_id"],
            set_={name: insert.excluded[name] for name in row if name != "key_id"}
            | {"validation_no": provider_keys.c.validation_no + 1},
        )
    )
    return _note(
        connection, _change(old, account_id, key_id, provider, revision, status, reason), cause
    )


def destroy(connection: Connection, key: KeyRecord, cause: Cause) -> StatusChange:
    """Destroy a key's ciphertext and data key in this transaction; a tombstone stays."""
    connection.execute(
        update(provider_keys)
        .where(provider_keys.c.key_id == key.key_id)
        .values(
            status="removed",
            reason=cause.name,
            master_key_id=None,
            wrapped_key=None,
            ciphertext=None,
            fingerprint=None,
            last4="",
            removed_at=cause.now,
            validate_at=None,
            validation_no=provider_keys.c.validation_no + 1,
        )
    )
    change = _change(
        key, key.account_id, key.key_id, key.provider, key.revision, "removed", cause.name
    )
    return _note(connection, change, cause)


def hold(connection: Connection, key: KeyRecord, cause: Cause) -> StatusChange:
    """Keep a key from being used or looked at until upstream says that it is still there."""
    connection.execute(
        update(provider_keys)
        .where(provider_keys.c.key_id == key.key_id)
        .values(
            status="pending",
            reason=UNTIL_TOLD,
            validate_at=None,
            suspect_at=None,
            validation_no=provider_keys.c.validation_no + 1,
        )
    )
    change = _change(
        key, key.account_id, key.key_id, key.provider, key.revision, "pending", UNTIL_TOLD
    )
    return _note(connection, change, cause)


def end_hold(connection: Connection, account_id: str, key_id: str, now: int) -> bool:
    """Have a held key looked at, since upstream says that it is there; whether it was held."""
    ended = connection.execute(
        update(provider_keys)
        .where(
            provider_keys.c.key_id == key_id,
            provider_keys.c.account_id == account_id,
            provider_keys.c.reason == UNTIL_TOLD,
        )
        .values(reason="", validate_at=now)
    )
    return bool(ended.rowcount)


def set_status(
    connection: Connection,
    key: KeyRecord,
    *,
    status: str,
    reason: str,
    validate_at: int | None,
    succeeded: bool,
    told: bool,
    cause: Cause,
) -> StatusChange | None:
    """Write a verdict; the change, or `None` where status and reason stay.

    `told` says whether the provider gave an answer that tells something of the key (else only
    the number of failed validations grows), `succeeded` whether it accepted the key.
    """
    values: dict[str, Any] = {
        "status": status,
        "reason": reason,
        "validate_at": validate_at,
        "suspect_at": None if told else provider_keys.c.suspect_at,
        "validation_failures": 0 if succeeded else provider_keys.c.validation_failures + 1,
    }
    if told:
        values["tested_at"] = cause.now
    if succeeded:
        values["last_ok_at"] = cause.now
    connection.execute(
        update(provider_keys).where(provider_keys.c.key_id == key.key_id).values(**values)
    )
    if (status, reason) == (key.status, key.reason):
        return None
    change = _change(key, key.account_id, key.key_id, key.provider, key.revision, status, reason)
    return _note(connection, change, cause)


def note_use(connection: Connection, key: KeyRecord, reason: str, cause: Cause) -> StatusChange:
    """Note that a key is used no more, or again, while its status and its own reason stay."""
    change = _change(
        key, key.account_id, key.key_id, key.provider, key.revision, key.status, reason
    )
    return _note(connection, change, cause)


def ask_validation(connection: Connection, key_id: str, at: int) -> bool:
    """Have a key validated at `at` (Unix ms); false where there is nothing to validate."""
    return bool(
        connection.execute(
            update(provider_keys)
            .where(
                provider_keys.c.key_id == key_id,
                provider_keys.c.ciphertext.is_not(None),
                provider_keys.c.reason != UNTIL_TOLD,
            )
            .values(validate_at=at)
        ).rowcount
    )


def doubt(connection: Connection, key_id: str, revision: int, validation_no: int, now: int) -> bool:
    """Mark a key that an analysis saw refused, and have it validated now; false if it is already.

    It is not used until the verdict. `revision` is that of the key that was used: a secret that
    took its id's place since is not doubted. `validation_no` is the key's when the attempt was
    claimed: one that was begun since tells of what was in flight then, so that a hundred refusals
    are one validation.
    """
    return bool(
        connection.execute(
            update(provider_keys)
            .where(
                provider_keys.c.key_id == key_id,
                provider_keys.c.revision == revision,
                provider_keys.c.ciphertext.is_not(None),
                provider_keys.c.suspect_at.is_(None),
                provider_keys.c.validation_no == validation_no,
            )
            .values(suspect_at=now, validate_at=now)
        ).rowcount
    )


def begin_validation(connection: Connection, key_id: str, now: int) -> KeyRecord | None:
    """Take a validation number for a key; `None` where the key is gone.

    If nothing more is heard of this validation, another one is due after `RESEND_SECONDS`.
    """
    taken = connection.execute(
        update(provider_keys)
        .where(
            provider_keys.c.key_id == key_id,
            provider_keys.c.removed_at.is_(None),
            provider_keys.c.ciphertext.is_not(None),
            provider_keys.c.reason != UNTIL_TOLD,
        )
        .values(
            validation_no=provider_keys.c.validation_no + 1,
            validate_at=now + RESEND_SECONDS * 1000,
        )
    )
    return find(connection, key_id) if taken.rowcount else None


def refresh_ok(connection: Connection, key_id: str, revision: int | None, now: int) -> None:
    """Note that real traffic proved a key; at most once in `OK_SECONDS`.

    `revision` is that of the key that was used: it proves nothing of a secret that has its id now.
    Each note is a write of one row that all of the key's completions would wait for.
    """
    stale = now - OK_SECONDS * 1000
    connection.execute(
        update(provider_keys)
        .where(
            provider_keys.c.key_id == key_id,
            provider_keys.c.revision == revision,
            provider_keys.c.removed_at.is_(None),
            or_(provider_keys.c.last_ok_at.is_(None), provider_keys.c.last_ok_at < stale),
        )
        .values(last_ok_at=now)
    )


def find(connection: Connection, key_id: str) -> KeyRecord | None:
    """One key, removed ones too. Before it is changed, its account's gate is passed."""
    row = connection.execute(_RECORDS.where(provider_keys.c.key_id == key_id)).one_or_none()
    return None if row is None else _record(row)


def active(connection: Connection, account_id: str) -> dict[str, KeyRecord]:
    """The account's active keys by provider."""
    statement = _RECORDS.join(
        key_slots,
        and_(
            key_slots.c.key_id == provider_keys.c.key_id,
            key_slots.c.account_id == provider_keys.c.account_id,
            key_slots.c.provider == provider_keys.c.provider,
        ),
    ).where(provider_keys.c.account_id == account_id, provider_keys.c.removed_at.is_(None))
    return {row.provider: _record(row) for row in connection.execute(statement)}


def superseded(
    connection: Connection, account_id: str, provider: str, key_id: str | None
) -> list[KeyRecord]:
    """The account's keys for a provider that are neither removed nor `key_id`."""
    return [
        key
        for key in unremoved(connection, account_id)
        if key.provider == provider and key.key_id != key_id
    ]


def unremoved(connection: Connection, account_id: str) -> list[KeyRecord]:
    """The account's keys that were not removed, whatever its slots say."""
    statement = _RECORDS.where(
        provider_keys.c.account_id == account_id, provider_keys.c.removed_at.is_(None)
    ).order_by(provider_keys.c.key_id)
    return [_record(row) for row in connection.execute(statement)]


def stored_key(connection: Connection, key_id: str) -> StoredKey | None:
    """The encrypted secret of a key, or `None` where it is destroyed or was never kept."""
    row = connection.execute(
        select(
            provider_keys.c.master_key_id, provider_keys.c.wrapped_key, provider_keys.c.ciphertext
        ).where(provider_keys.c.key_id == key_id, provider_keys.c.removed_at.is_(None))
    ).one_or_none()
    # Whatever of it is gone, nothing opens without it.
    if row is None or None in (row.master_key_id, row.wrapped_key, row.ciphertext):
        return None
    return StoredKey(row.master_key_id, row.wrapped_key, row.ciphertext)


def highest_revision(connection: Connection, account_id: str) -> int:
    """The highest revision seen in the account's key events; 0 where there is none."""
    highest = 0
    for table in (key_slots, key_settings):
        found = connection.execute(
            select(func.max(table.c.revision)).where(table.c.account_id == account_id)
        ).scalar()
        highest = max(highest, found or 0)
    return highest


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One change of a key's state: when, from what to what, by which event of which source."""

    at: int
    key_id: str
    cause: str
    event_id: str
    source: str
    old_status: str | None
    new_status: str
    reason: str


def history(connection: Connection, account_id: str) -> list[HistoryEntry]:
    """The changes of an account's keys, oldest first."""
    columns = [c for c in key_history.c if c.name not in ("id", "account_id")]
    rows = connection.execute(
        select(*columns)
        .where(key_history.c.account_id == account_id)
        .order_by(key_history.c.at, key_history.c.id)
    )
    return [HistoryEntry(**row._mapping) for row in rows]


def counts(connection: Connection) -> dict[tuple[str, str, str], int]:
    """How many keys there are, by (provider, status, reason); removed ones are left out."""
    rows = connection.execute(
        select(
            provider_keys.c.provider, provider_keys.c.status, provider_keys.c.reason, func.count()
        )
        .where(provider_keys.c.removed_at.is_(None))
        .group_by(provider_keys.c.provider, provider_keys.c.status, provider_keys.c.reason)
    )
    return {(provider, status, reason): count for provider, status, reason, count in rows}


def _change(
    old: KeyRecord | None,
    account_id: str,
    key_id: str,
    provider: str,
    revision: int,
    status: str,
    reason: str,
) -> StatusChange:
    return StatusChange(
        account_id=account_id,
        key_id=key_id,
        provider=provider,
        revision=revision,
        old_status=old.status if old else None,
        new_status=status,
        reason=reason,
    )


def _note(connection: Connection, change: StatusChange, cause: Cause) -> StatusChange:
    connection.execute(
        key_history.insert().values(
            id=cause.history_id,
            at=cause.now,
            account_id=change.account_id,
            key_id=change.key_id,
            cause=cause.name,
            event_id=cause.event_id,
            source=cause.source,
            old_status=change.old_status,
            new_status=change.new_status,
            reason=change.reason,
        )
    )
    return change


_PLAIN = tuple(
    column
    for column in provider_keys.c
    if column.name
    not in (
        "master_key_id",
        "wrapped_key",
        "ciphertext",
        "fingerprint",
        "validate_at",
        "requests_dropped",
    )
)
_RECORDS: Select[Any] = select(
    *_PLAIN,
    func.coalesce(key_settings.c.allow_platform_fallback, false()).label("allow"),
    key_settings.c.budget_nano_usd,
).select_from(
    provider_keys.outerjoin(
        key_settings,
        and_(
            key_settings.c.account_id == provider_keys.c.account_id,
            key_settings.c.key_id == provider_keys.c.key_id,
        ),
    )
)


def _record(row: Row[Any]) -> KeyRecord:
    fields = dict(row._mapping)
    return KeyRecord(allow_platform_fallback=bool(fields.pop("allow")), **fields)
