"""What becomes of an account's requests when a life of it is over."""

from sqlalchemy import Connection

from store import analyses, erasure
from store.erasure import Erased
from store.masterkeys import DoesNotOpen
from workers.analyses import ending
from workers.app import App


def end_requests(app: App, connection: Connection, account: str, life: int | None) -> int:
    """End the account's open requests; how many. An answer that still comes is billed, not stored.

    With `life` only those that were accepted under that revision of the account or before: the
    deletion came late, and the others are of the life after it.
    """
    ended = [
        request
        for request in analyses.open_requests(connection, account)
        if life is None
        or (request.account_revision is not None and request.account_revision <= life)
    ]
    for request in ended:
        ending.skip(app, connection, request, "account_deleted")
    return len(ended)


def erase(app: App, connection: Connection, account: str, life: int | None) -> tuple[Erased, int]:
    """Erase what those requests hold, and the account's data key; what, and how many data keys.

    Destroying the data key makes every encrypted text unreadable, in backups too. What of the life
    after a late deletion lies under it is put under a fresh one; what does not open stays as it
    is. Raises `MasterKeyMissing` and `MasterKeyUnavailable`.
    """
    erased = erasure.erase_requests(connection, account, life)
    staying = [
        (encrypted, _open(app, connection, account, encrypted))
        for encrypted in analyses.encrypted_of(connection, account)
    ]
    destroyed = app.vault.forget(connection, account)
    analyses.forget_digests(connection, account)
    now = app.effects.now_ms()
    for encrypted, content in staying:
        if content is not None:
            anew = app.vault.encrypt(connection, account, encrypted.purpose, content, now)
            analyses.put_under_another_key(connection, account, encrypted, anew)
    return erased, int(destroyed)


def _open(
    app: App, connection: Connection, account: str, encrypted: analyses.Encrypted
) -> bytes | None:
    try:
        return app.vault.decrypt(connection, account, encrypted.purpose, encrypted.content)
    except DoesNotOpen:
        app.instruments.vault_failures.labels(DoesNotOpen.__name__).inc()
        return None
