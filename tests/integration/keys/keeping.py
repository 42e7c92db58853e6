"""Keys in a store, put there as their events put them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from metrics.instruments import Instruments
from store import keys
from store.engine import Database
from store.masterkeys import LocalKeyRing
from store.schema import data_keys, key_history, provider_keys
from store.vault import StoredKey, Vault
from tests.unit.workers.standins import START, Clockwork
from workers import logs
from workers.app import App
from workers.cli import main

ROOT = Path(__file__).parents[3]
ONE, TWO, THREE = (bytes([byte]) * 32 for byte in (1, 2, 3))
"""Obviously fake master keys. ONE is the one of `tests.road.fake_key(1)`, whose id is `t1`."""

OLD = {"t1": ONE}
NEW = {"t2": TWO, "t1": ONE}
"""`t2` is the current one, and what was wrapped under `t1` still opens."""


def fake_secret(number: int) -> str:
    """An obviously fake key."""
    return f"sk-proj-fake-not-a-real-key-{number:06}"


def vault_of(ring: Mapping[str, bytes]) -> Vault:
    """A vault with these master keys, the first one current."""
    return Vault(LocalKeyRing(ring), Clockwork().random_bytes)


def put_key(
    database: Database,
    vault: Vault,
    key_id: str,
    *,
    account: str = "acme",
    provider: str = "openai",
    secret: str | None = None,
    **state: Any,
) -> None:
    """Store a Valid key; `state` is what its row has beside that."""
    secret = secret or fake_secret(1)
    with database.write() as connection:
        keys.take_slot(
            connection, account, provider, key_id=key_id, revision=1, event_id=f"e-{key_id}"
        )
        keys.put(
            connection,
            account_id=account,
            provider=provider,
            key_id=key_id,
            revision=1,
            status="valid",
            reason="ok",
            stored=vault.store_key(secret, account=account, provider=provider, key_id=key_id),
            fingerprint=None,
            last4=secret[-4:],
            validate_at=START,
            cause=keys.Cause(
                name="added",
                event_id=f"e-{key_id}",
                source="upstream",
                history_id=f"h-{key_id}",
                now=START,
            ),
        )
    if state:
        change_key(database, key_id, **state)


def change_key(database: Database, key_id: str, /, **state: Any) -> None:
    """Write into a key's row, as somebody with the database's password does."""
    with database.write() as connection:
        connection.execute(
            provider_keys.update().where(provider_keys.c.key_id == key_id).values(**state)
        )


def row_of(database: Database, key_id: str) -> Any:
    """A key's row with everything in it."""
    with database.read() as connection:
        return connection.execute(
            select(provider_keys).where(provider_keys.c.key_id == key_id)
        ).one()


def stored_key(database: Database, key_id: str) -> StoredKey:
    """A key as it lies in the store."""
    with database.read() as connection:
        found = keys.stored_key(connection, key_id)
    assert found is not None
    return found


def master_keys_of(database: Database) -> dict[str, str]:
    """Under which master key each data key is, by the name of what it is for."""
    found: dict[str, str] = {}
    with database.read() as connection:
        for name, column in (("key_id", provider_keys), ("scope", data_keys)):
            rows = connection.execute(select(column.c[name], column.c.master_key_id))
            found.update({row[0]: row.master_key_id for row in rows if row.master_key_id})
    return found


def history_of(database: Database, key_id: str) -> list[Any]:
    """The history of one key, oldest first."""
    with database.read() as connection:
        return list(
            connection.execute(
                select(key_history)
                .where(key_history.c.key_id == key_id)
                .order_by(key_history.c.at, key_history.c.id)
            )
        )


def counted(instruments: Instruments, reason: str) -> float:
    """`byok_vault_failures_total` of a reason."""
    return float(instruments.vault_failures.labels(reason)._value.get())


def byok(app: App, *arguments: str, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Run a command on the app's store; its exit code, its JSON (if any), and its stderr."""
    ran = subprocess.run(
        [sys.executable, "-m", "workers.cli.main", *arguments],
        cwd=ROOT,
        env={
            **{name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
            **environment_of(app),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, json.loads(ran.stdout) if ran.stdout else {}, ran.stderr


def command(app: App, *arguments: str) -> dict[str, Any]:
    """Run a command that must succeed on the app's store, in this process; its JSON.

    A process of its own costs more than most tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        # This process's logging is the tests' own.
        patch.setattr(logs, "set_up", lambda _level: None)
        for name, value in environment_of(app).items():
            patch.setenv(name, value)
        done = CliRunner().invoke(main.app, list(arguments))
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def environment_of(app: App) -> dict[str, str]:
    """What a command needs in its environment to work on the app's store."""
    settings = app.settings
    return {
        "BYOK_STATE_DIR": str(settings.state_dir),
        "BYOK_BROKER_URL": settings.effective_broker_url,
        "BYOK_REDIS_URL": settings.effective_redis_url,
        # Through the engine: a test's app has a database of its own beside its settings.
        "BYOK_DATABASE_URL": app.database.url.render_as_string(hide_password=False),
        "BYOK_MASTER_KEYS": _given(settings.master_keys),
        "BYOK_SEALING_KEYS": _given(settings.sealing_keys),
    }


def _given(secret: Any) -> str:
    return "" if secret is None else str(secret.get_secret_value())
