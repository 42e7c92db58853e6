"""Bringing a database to the schema of this version."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from store.engine import Database

_MIGRATIONS = Path(__file__).parent / "migrations"
_GRANTS = Path(__file__).parent / "grants.sql"
_LOCK = 7_262_015
"""Names our advisory lock on PostgreSQL; any number that nobody else uses there."""


def upgrade(database: Database, revision: str = "head") -> None:
    """Apply the migrations up to `revision` that the database lacks, and what PostgreSQL's roles
    may do.

    Safe to call at every start, also by two.
    """
    # Imported here: Alembic costs 0.2 s, and most commands only look whether something is missing.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if not database.is_sqlite:
            connection.execute(text(_GRANTS.read_text(encoding="utf-8")))


def newer(database: Database) -> str | None:
    """The revision of a database that a newer version has migrated, or `None`.

    This version works on it all the same: a schema is expanded first and contracted in a later
    release.
    """
    with database.read() as connection:
        applied = _applied(connection)
    return applied if applied is not None and applied > revisions()[-1] else None


def missing(database: Database) -> list[str]:
    """The migrations that the database lacks, oldest first."""
    with database.read() as connection:
        applied = _applied(connection)
    return [revision for revision in revisions() if applied is None or revision > applied]


def revisions() -> list[str]:
    """The revisions of this version, oldest first. Their files' names begin with their numbers."""
    files = (_MIGRATIONS / "versions").glob("[0-9]*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def _applied(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    return found
