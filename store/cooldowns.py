"""Cooldowns: until when a key, or the platform's key, is not to be called."""

from sqlalchemy import Connection, delete, select

from store.schema import cooldowns
from store.statements import insert_into


def key_scope(key_id: str) -> str:
    """The scope of an account's own key."""
    return f"key:{key_id}"


def platform_scope(provider: str) -> str:
    """The scope of the platform's key for a provider."""
    return f"platform:{provider}"


def set_until(connection: Connection, scope: str, until: int, reason: str) -> None:
    """Hold calls of `scope` back until `until` (Unix ms), or longer where that was said before."""
    statement = insert_into(connection, cooldowns).values(
        scope=scope, until_at=until, reason=reason
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["scope"],
            set_={"until_at": statement.excluded.until_at, "reason": statement.excluded.reason},
            where=cooldowns.c.until_at < statement.excluded.until_at,
        )
    )


def active(connection: Connection, scopes: list[str], now: int) -> dict[str, int]:
    """The cooldowns of `scopes` that have not run out, by scope."""
    rows = connection.execute(
        select(cooldowns.c.scope, cooldowns.c.until_at).where(
            cooldowns.c.scope.in_(scopes), cooldowns.c.until_at > now
        )
    )
    return {row.scope: row.until_at for row in rows}


def any_past(connection: Connection, now: int) -> bool:
    """Whether there is anything to forget; a plain read."""
    found = connection.execute(
        select(cooldowns.c.scope).where(cooldowns.c.until_at <= now).limit(1)
    )
    return found.first() is not None


def forget_past(connection: Connection, now: int) -> None:
    """Delete the cooldowns that have run out."""
    connection.execute(delete(cooldowns).where(cooldowns.c.until_at <= now))
