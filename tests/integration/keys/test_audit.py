"""The audit trail: who or what changed a key, by which event, and for commands which person."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from events import AccountDeleted, KeyAdded, KeyTested, Provider
from store import accounts, keys
from tests.integration.keys.keeping import byok, command
from tests.road import GOOD_OPENAI, Road, fake_key
from tests.unit.workers.standins import stand_in_settings
from workers.app import CLI, App
from workers.cli.keys import KeySettings, give_key
from workers.settings import Settings

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)


def command_app(settings: Settings, operator: str) -> App:
    """The app of a command that somebody runs."""
    return App(settings.model_copy(update={"operator": operator}), role=CLI)


def trail(road: Road) -> list[tuple[str, str, str | None, str]]:
    """(cause, source, from, to) of each change of acme's keys."""
    with road.app.database.read() as connection:
        return [
            (entry.cause, entry.source, entry.old_status, entry.new_status)
            for entry in keys.history(connection, "acme")
        ]


@one_road
def test_every_change_names_its_cause_its_event_and_its_source(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    road.give_key(replaces=True)
    road.remove_key(road_key(road))
    assert trail(road) == [
        ("added", "test/upstream", None, "pending"),
        ("validated", "byok/workers", "pending", "valid"),
        ("replaced", "test/upstream", "valid", "removed"),
        ("replaced", "test/upstream", None, "pending"),
        ("validated", "byok/workers", "pending", "valid"),
        ("removed", "test/upstream", "valid", "removed"),
    ]
    with road.app.database.read() as connection:
        by_event = {e.key_id: e.event_id for e in keys.history(connection, "acme") if e.event_id}
    assert key_id in by_event


@one_road
def test_what_is_written_in_the_history_is_never_written_again(road: Road) -> None:
    def entries() -> list[keys.HistoryEntry]:
        with road.app.database.read() as connection:
            return keys.history(connection, "acme")

    def deleted() -> bool:
        with road.app.database.read() as connection:
            return accounts.find(connection, "acme") is None

    road.account()
    seen: list[keys.HistoryEntry] = []
    for step in ("add", "replace", "revoke", "downgrade", "upgrade", "remove", "add", "delete"):
        if step in ("add", "replace"):
            road.give_key(replaces=step == "replace")
        elif step == "revoke":
            key_id = road_key(road)
            road.sandbox.fault("revoked", key=GOOD_OPENAI)
            road.publish(KeyTested(key_id=key_id), "acme")
            road.until(lambda k=key_id: (r := road.key(k)) and r.status == "invalid")  # type: ignore[misc]  # bound now
            road.sandbox.clear_faults()
        elif step in ("downgrade", "upgrade"):
            road.account(plan="business" if step == "upgrade" else "free")
        elif step == "remove":
            road.remove_key(road_key(road))
        else:
            road.publish(AccountDeleted(revision=road.revision()), "acme")
            road.until(deleted)
        now = entries()
        assert (step, now[: len(seen)]) == (step, seen)
        assert (step, len(now) > len(seen)) == (step, True)
        seen = now
    told = command(road.app, "keys", "history", "acme", "--json")["changes"]
    assert [entry["cause"] for entry in told] == [entry.cause for entry in seen]


def road_key(road: Road) -> str:
    """The id of acme's OpenAI key."""
    with road.app.database.read() as connection:
        return keys.active(connection, "acme")["openai"].key_id


@one_road
def test_a_command_is_signed_by_its_source_and_told_by_its_operator(road: Road) -> None:
    road.account()
    app = command_app(road.settings, "ann")
    assert app.settings.operator_source == "test/upstream#ann"
    pasted = "sk-proj-sandbox-of-ann-not-a-real-key"
    key_id = give_key(app, KeyAdded, "acme", Provider.OPENAI, pasted, KeySettings())
    road.until(lambda: (k := road.key(key_id)) is not None and k.status == "valid")
    app.publisher.publish(KeyTested(key_id=key_id), account="acme")
    app.close()
    assert trail(road)[0] == ("added", "test/upstream#ann", None, "pending")
    code, told, _ = byok(road.app, "keys", "history", "acme", "--json")
    assert (code, told["changes"][0]["source"]) == (0, "test/upstream#ann")


@one_road
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signing_key": None}, "unsigned"),
        ({"source": "stranger"}, "unknown_source"),
        ({"signing_key": SecretStr(fake_key(9))}, "bad_signature"),
    ],
    ids=["unsigned", "unknown", "another-key"],
)
def test_a_name_after_the_source_lets_nobody_in(
    road: Road, changes: dict[str, Any], reason: str
) -> None:
    app = command_app(road.settings.model_copy(update=changes), "ann")
    app.publisher.publish(KeyTested(key_id="key-1"), account="acme")
    app.close()
    road.until(lambda: road.out_events("event.rejected"))
    (rejected,) = road.out_events("event.rejected")
    assert rejected["data"]["reason"] == reason


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        ("ann", "byok/cli#ann"),
        ("ann@example.org", "byok/cli#ann@example.org"),
        ("Ann Bee\n", "byok/cli#Ann_Bee_"),
        ("x" * 200, "byok/cli#" + "x" * 64),
    ],
)
def test_a_name_is_made_fit_for_a_source(tmp_path: Path, operator: str, told: str) -> None:
    assert stand_in_settings(tmp_path, operator=operator).operator_source == told
