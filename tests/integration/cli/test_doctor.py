"""`byok doctor`: what it finds of each part, and what it says to do."""

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from events import Provider
from tests.commands import Shell
from tests.road import Road

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
PARTS = [
    *("settings", "state directory"),
    *("broker", "redis", "clock", "database", "migrations", "master keys", "sealing keys"),
    *("publishers", "roles", "pauses", "budgets", "retention", "openai", "anthropic"),
]


def checks(shell: Shell, **environment: str) -> dict[str, dict[str, Any]]:
    """What the doctor found, by part."""
    found = shell.byok("doctor", "--json", **environment)
    assert found.code == (0 if found.object["ok"] else 1)
    return {check["part"]: check for check in found.object["checks"]}


@pytest.mark.parametrize("services", ["sqlite-valkey", "postgresql-valkey"], indirect=True)
def test_where_all_is_well_it_says_so_of_each_part(road: Road, shell: Shell) -> None:
    found = checks(shell)
    assert list(found) == PARTS
    assert all(check["ok"] and check["do"] is None for check in found.values()), found
    for provider in Provider:
        assert "answers, and the platform's key works" in found[provider.value]["detail"]
    assert road.sandbox.bill() == []


@one_road
def test_each_fault_is_told_of_its_part_with_what_to_do(road: Road, shell: Shell) -> None:
    with road.app.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    shell.byok("pause", "provider", "openai", "--note", "incident 7")
    found = checks(
        shell,
        BYOK_BROKER_URL="redis://127.0.0.1:1",
        BYOK_PUBLISHERS="{}",
        BYOK_SEALING_PUBLIC_KEY=str(road.settings.sealing_public).replace("t2:", "t9:"),
        BYOK_PLATFORM_OPENAI_KEY="sk-proj-sandbox-invalid-platform-not-a-real-key",
        ANTHROPIC_BASE_URL="http://127.0.0.1:1",
    )
    wrong = {part: check for part, check in found.items() if not check["ok"]}
    assert sorted(wrong) == [
        *("anthropic", "broker", "migrations", "openai", "publishers", "sealing keys"),
    ]
    assert "BYOK_BROKER_URL" in wrong["broker"]["do"]
    assert wrong["migrations"]["do"] == "run `byok db upgrade`"
    assert "BYOK_PLATFORM_OPENAI_KEY" in wrong["openai"]["do"]
    assert "ANTHROPIC_BASE_URL" in wrong["anthropic"]["do"]
    assert "keygen signing" in wrong["publishers"]["do"]


@one_road
def test_a_clock_that_differs_is_told(
    road: Road, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = road.app.effects.now_ms() + 90_000
    monkeypatch.setattr("workers.effects.SystemEffects.now_ms", lambda self: ahead)
    clock = checks(shell)["clock"]
    assert clock["ok"] is False
    assert "differs from that of Redis by" in clock["detail"]
    assert "synchronise the clocks" in clock["do"]


@one_road
def test_the_table_names_what_to_do_beside_what_is_wrong(shell: Shell) -> None:
    done = shell.byok("doctor", BYOK_BROKER_URL="redis://127.0.0.1:1")
    assert done.code == 1
    assert done.err == "byok: Not well: broker.\n"
    assert "check BYOK_BROKER_URL" in done.out


@one_road
def test_a_master_key_that_is_another_under_the_same_id_is_told(road: Road, shell: Shell) -> None:
    road.account()
    road.give_key()
    held = road.settings.master_keys
    assert held is not None
    key_id, _, _ = held.get_secret_value().partition(":")
    found = checks(shell, BYOK_MASTER_KEYS=f"{key_id}:{base64.b64encode(bytes(32)).decode()}")
    assert not found["master keys"]["ok"]
    assert f"nothing that is stored under {key_id} opens" in found["master keys"]["detail"]
    assert checks(shell)["master keys"]["ok"]


@one_road
def test_a_database_that_a_newer_version_has_migrated_is_told(road: Road, shell: Shell) -> None:
    with road.app.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    found = checks(shell)["migrations"]
    assert found["ok"]
    assert found["detail"].endswith("are applied, and a newer version's up to 9999")


@one_road
def test_a_state_directory_that_cannot_be_used_is_told(
    road: Road, shell: Shell, tmp_path: Path
) -> None:
    del road
    (tmp_path / "file").touch()
    for where, says in (
        (tmp_path / "file", "is no directory"),
        ("/proc/self", "cannot be written"),
    ):
        found = checks(shell, BYOK_STATE_DIR=str(where))["state directory"]
        assert not found["ok"]
        assert says in found["detail"]


@one_road
def test_a_variable_that_is_misspelt_is_told(road: Road, shell: Shell) -> None:
    del road
    found = checks(shell, BYOK_DATABSE_URL="sqlite:///x", BYOK_OF_SOMEBODY_ELSE="1")["settings"]
    assert not found["ok"]
    assert found["detail"] == "BYOK_DATABSE_URL: there is no setting of that name"
    assert found["do"] == "did you mean BYOK_DATABASE_URL?"


@one_road
def test_a_disk_that_is_nearly_full_is_told(
    road: Road, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    del road
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    assert checks(shell)["state directory"]["ok"], "queue and database are elsewhere"
    found = checks(shell, BYOK_DATABASE_URL="")["state directory"]
    assert not found["ok"]
    assert found["detail"].startswith("5 MB are free on the disk of ")
