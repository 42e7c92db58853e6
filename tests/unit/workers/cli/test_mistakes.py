"""Common mistakes at the command line, and what each of them prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from store import migrate
from store.engine import Database
from tests.commands import Said, Shell

NOWHERE = "redis://127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A command, what it ends with, and what it says (a part of it, where typer says it)."""

    arguments: Sequence[str]
    code: int
    says: str
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""


MISTAKES: dict[str, Mistake] = {
    "no `byok up` yet": Mistake(
        ["account", "show", "acme"],
        1,
        "There is no store under {state} yet: start `byok up` first.",
    ),
    "a command that there is not": Mistake(
        ["kyes"], 2, "No such command 'kyes'. Did you mean 'keys'?"
    ),
    "an option that there is not": Mistake(["doctor", "--jsn"], 2, "No such option: --jsn"),
    "no account": Mistake(["account", "show"], 2, "Missing argument 'account'"),
    "a provider that there is not": Mistake(["keys", "add", "acme", "mistral"], 2, "'mistral'"),
    "a number that is none": Mistake(
        ["failed", "list", "--limit", "many"], 2, "Invalid value for '--limit'"
    ),
    "a window that there is not": Mistake(
        ["usage", "acme", "--days", "8"], 2, "--days takes 7, 30 or 90."
    ),
    "neither of two options": Mistake(["revalidate"], 2, "give one of --due and --all."),
    "a credit that is no number": Mistake(
        ["account", "set", "acme", "--plan", "pro", "--credits", "lots"],
        2,
        "--credits takes a number or `unlimited`.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}"},
    ),
    "a setting that is out of its range": Mistake(
        ["doctor"],
        1,
        "BYOK_ANALYSIS_THREADS is wrong: Input should be greater than or equal to 1.",
        {"BYOK_ANALYSIS_THREADS": "0"},
    ),
    "a setting that is no number": Mistake(
        ["doctor"], 1, "BYOK_HEALTH_PORT is wrong:", {"BYOK_HEALTH_PORT": "http"}
    ),
    "an address without its scheme": Mistake(
        ["doctor"],
        1,
        "BYOK_BROKER_URL is wrong: it must begin with redis://",
        {"BYOK_BROKER_URL": "localhost:6379"},
    ),
    "a database of another kind": Mistake(
        ["account", "show", "acme"],
        1,
        "BYOK_DATABASE_URL is wrong: it must begin with sqlite://, postgresql://, postgresql+psycopg://.",
        {"BYOK_DATABASE_URL": "mysql://127.0.0.1/byok"},
    ),
    "a database that is not there": Mistake(
        ["account", "show", "acme"],
        1,
        "The database cannot be reached or is busy: check BYOK_DATABASE_URL.",
        {"BYOK_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/byok"},
    ),
    "a database without the schema": Mistake(
        ["account", "show", "acme"],
        1,
        "The database has an older schema than this version: run `byok db upgrade`.",
        {"BYOK_DATABASE_URL": "sqlite:///{empty}"},
    ),
    "an account that is not known": Mistake(
        ["keys", "show", "acme"],
        1,
        "The account 'acme' is not known: run `byok account set acme --plan …`.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}"},
    ),
    "a queue that is not there": Mistake(
        ["account", "set", "acme", "--plan", "pro"],
        1,
        "The message queue cannot be reached: start `byok up`, or check BYOK_BROKER_URL.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}", "BYOK_BROKER_URL": NOWHERE},
    ),
    "a master key that is cut": Mistake(
        ["rekey"],
        1,
        "BYOK_MASTER_KEYS:",
        {"BYOK_DATABASE_URL": "sqlite:///{made}", "BYOK_MASTER_KEYS": "m1:c2hvcnQ="},
    ),
    "a key file that is not there": Mistake(
        ["rekey"],
        1,
        "There is no file {state}/nothing: check BYOK_MASTER_KEYS_FILE.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}", "BYOK_MASTER_KEYS_FILE": "{state}/nothing"},
    ),
    "a Redis that is not there": Mistake(
        ["events"],
        1,
        "Redis cannot be reached: start `byok up`, or check BYOK_REDIS_URL.",
        {
            "BYOK_DATABASE_URL": "sqlite:///{made}",
            "BYOK_BROKER_URL": NOWHERE,
            "BYOK_REDIS_URL": NOWHERE,
        },
    ),
    "a role that does not run": Mistake(
        ["healthcheck", "worker"], 1, "No worker runs here under {state}: start `byok worker`."
    ),
    "a set-aside message that is not there": Mistake(
        ["failed", "show", "nothing"],
        1,
        "Nothing with the id 'nothing' is set aside: see `byok failed list`.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}"},
    ),
    "nothing to pause": Mistake(
        ["pause", "queue", "anlyses"],
        2,
        "there is no queue of that name",
        {"BYOK_DATABASE_URL": "sqlite:///{made}"},
    ),
    "a state directory of nobody": Mistake(
        ["doctor"],
        1,
        "BYOK_STATE_DIR is wrong: it begins with the home directory of nobody here.",
        {"BYOK_STATE_DIR": "~nobody-at-all/byok"},
    ),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store with the schema, one without it, and a state directory with nothing in it."""
    directory = tmp_path_factory.mktemp("mistakes")
    made = Database(f"sqlite:///{directory / 'made.sqlite3'}")
    migrate.upgrade(made)
    made.close()
    return {
        "made": directory / "made.sqlite3",
        "empty": directory / "empty.sqlite3",
        "state": directory / "state",
    }


def told(said: Said) -> str:
    """What was said, without the frame that typer draws around wrong usage."""
    lines = (line.strip("│╭╮╰╯─ ") for line in said.err.splitlines())
    return " ".join(line for line in lines if line)


@pytest.mark.parametrize("what", MISTAKES)
def test_a_common_mistake_is_answered_in_one_sentence_and_without_a_traceback(
    what: str,
    stores: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mistake = MISTAKES[what]
    environment = {name: value.format(**stores) for name, value in mistake.environment.items()}
    shell = Shell(monkeypatch, capsys, {"BYOK_STATE_DIR": str(stores["state"]), "COLUMNS": "200"})
    said = shell.byok(*mistake.arguments, stdin=mistake.stdin, **environment)
    assert mistake.says.format(**stores) in told(said)
    assert said.code == mistake.code
    assert "Traceback" not in said.err
    if mistake.code == 1:
        assert said.err.startswith("byok: ")
        assert said.err.count("\n") == 1
    if "--json" not in mistake.arguments:
        assert said.out == ""


def test_there_are_twenty_and_more() -> None:
    assert len(MISTAKES) >= 20
