"""`byok pause`, `resume` and `paused`, as an operator uses them."""

import pytest

from store import keys
from tests.commands import Shell
from tests.road import Road

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)


def test_what_is_paused_is_shown_with_who_did_it_until_it_is_resumed(
    road: Road, shell: Shell
) -> None:
    road.account()
    done = shell.byok("pause", "provider", "openai", "--note", "their incident", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.object["changed"] is True
    shown = shell.byok("paused", "--json").object
    (one,) = shown["paused"]
    assert (one["kind"], one["name"], one["note"]) == ("provider", "openai", "their incident")
    assert one["by"] == "test/upstream#ann"
    assert one["requests_waiting"] == 0
    again = shell.byok("pause", "provider", "openai")
    assert (again.code, again.out) == (0, "The provider openai was paused already.\n")
    gone_on = shell.byok("resume", "provider", "openai")
    assert (gone_on.code, gone_on.out) == (0, "The provider openai goes on.\n")
    told = shell.byok("paused", "--json", BYOK_OPERATOR="bob").object
    assert told["paused"] == []
    assert [(entry["action"], entry["by"]) for entry in told["log"]] == [
        ("resume", "test/upstream#ann"),
        ("pause", "test/upstream#ann"),
    ]


def test_a_key_in_a_note_is_not_kept(shell: Shell) -> None:
    shell.byok("pause", "queue", "usage", "--note", "sk-proj-fake-hunter2-not-a-real-key")
    assert "hunter2" not in shell.byok("paused", "--json").out


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["pause", "provider", "mistral"], 2, "openai, anthropic"),
        (["pause", "queue", "anlyses"], 2, "analyses"),
        (["pause", "account", "nobody"], 1, "not known"),
        (["pause", "world", "x"], 2, "provider"),
        (["resume", "provider", "openai"], 1, "is not paused"),
    ],
)
def test_what_cannot_be_paused_or_resumed_is_refused(
    shell: Shell, arguments: list[str], code: int, word: str
) -> None:
    done = shell.byok(*arguments)
    assert (done.code, done.out) == (code, "")
    assert word in done.err


def test_revalidating_passes_a_paused_provider_over_and_says_so(road: Road, shell: Shell) -> None:
    road.account()
    road.give_key()
    shell.byok("pause", "provider", "openai")
    with road.app.database.write() as connection:
        keys.ask_validation(connection, road_key(road), 0)
    done = shell.byok("revalidate", "--due", "--json")
    assert (done.code, done.object) == (0, {"sent": 0, "put_off": 0})
    assert done.err == "openai is paused: its keys wait.\n"


def road_key(road: Road) -> str:
    with road.app.database.read() as connection:
        return keys.active(connection, "acme")["openai"].key_id
