"""Common mistakes at the command line, and what each of them prints."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text

from store import migrate
from store.engine import Database
from tests.commands import Said, Shell
from tests.road import GOOD_OPENAI

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
        "The database cannot be used, because nothing listens there: check BYOK_DATABASE_URL and "
        "that the server runs.",
        {"BYOK_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/byok"},
    ),
    "a database on a host that is not there": Mistake(
        ["account", "show", "acme"],
        1,
        "The database cannot be used, because there is no host of that name: check "
        "BYOK_DATABASE_URL.",
        {"BYOK_DATABASE_URL": "postgresql://postgres@nowhere.invalid/byok"},
    ),
    "a database whose directory is not there": Mistake(
        ["account", "show", "acme"],
        1,
        "The database cannot be used, because the file cannot be opened: check BYOK_DATABASE_URL "
        "and its directory.",
        {"BYOK_DATABASE_URL": "sqlite:///{state}/nowhere/byok.sqlite3"},
    ),
    "a file that is no database": Mistake(
        ["account", "show", "acme"],
        1,
        "The database cannot be used, because the file is no SQLite database: check "
        "BYOK_DATABASE_URL.",
        {"BYOK_DATABASE_URL": "sqlite:///{text}"},
    ),
    "a file that is no database, to be upgraded": Mistake(
        ["db", "upgrade"],
        1,
        "The database cannot be used, because the file is no SQLite database: check "
        "BYOK_DATABASE_URL.",
        {"BYOK_DATABASE_URL": "sqlite:///{text}"},
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
    "a RabbitMQ that is not there": Mistake(
        ["account", "set", "acme", "--plan", "pro"],
        1,
        "The message queue cannot be reached: start `byok up`, or check BYOK_BROKER_URL.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}", "BYOK_BROKER_URL": "amqp://127.0.0.1:1"},
    ),
    "a state directory that is a file": Mistake(
        ["up"],
        1,
        "{text} cannot be written (File exists): name a directory of your own in BYOK_STATE_DIR, "
        "on a disk that has room.",
        {"BYOK_STATE_DIR": "{text}"},
    ),
    "a state directory where nobody may write": Mistake(
        ["up"],
        1,
        "/proc/byok cannot be written (No such file or directory): name a directory of your own in "
        "BYOK_STATE_DIR, on a disk that has room.",
        {"BYOK_STATE_DIR": "/proc/byok"},
    ),
    "services without their keys": Mistake(
        ["up"],
        1,
        "BYOK_MASTER_KEYS is not set: make a key with `byok keygen master` and set "
        "BYOK_MASTER_KEYS or BYOK_MASTER_KEYS_FILE.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}", "BYOK_BROKER_URL": NOWHERE},
    ),
    "a model's name with a space": Mistake(
        ["doctor"],
        1,
        "BYOK_OPENAI_MODEL is wrong: it is no name of a model.",
        {"BYOK_OPENAI_MODEL": "gpt 5"},
    ),
    "a key file that is a directory": Mistake(
        ["rekey"],
        1,
        "{directory} cannot be read (Is a directory): check BYOK_MASTER_KEYS_FILE.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}", "BYOK_MASTER_KEYS_FILE": "{directory}"},
    ),
    "an account's id with a space": Mistake(
        ["account", "show", "a b"], 2, "that is no account's id: it has 128 characters at most"
    ),
    "a plan that there is not": Mistake(
        ["account", "set", "acme", "--plan", "busines"],
        2,
        "there is no plan of that name: take one of free, starter, pro, business,",
        {"BYOK_DATABASE_URL": "sqlite:///{made}"},
    ),
    "a time zone that there is not": Mistake(
        ["account", "set", "acme", "--plan", "pro", "--timezone", "Mars/Olympus"],
        1,
        "The account's timezone is wrong: not a time zone of the IANA database.",
        {"BYOK_DATABASE_URL": "sqlite:///{made}"},
    ),
    "a key as an argument": Mistake(
        ["keys", "add", "acme", "openai", GOOD_OPENAI],
        2,
        "a key is never an argument: type it at the prompt, or pipe it in.",
    ),
    "an operation that there is not": Mistake(
        ["analyze", "acme", "inbox", "--operation", "translate"],
        2,
        "Invalid value for '--operation': 'translate' is not one of 'classify',",
    ),
    "a model with a space": Mistake(
        ["analyze", "acme", "inbox", "--model", "gpt 5"], 2, "that is no name of a model"
    ),
    "a type of event that there is not": Mistake(
        ["events", "--type", "key.added"], 2, "--type takes one of"
    ),
    "two forms at once": Mistake(
        ["usage", "acme", "--csv", "--json"], 2, "give one of --csv and --json."
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
    """A store with the schema, one without, a file of words, a directory, and what is not there."""
    directory = tmp_path_factory.mktemp("mistakes")
    made = Database(f"sqlite:///{directory / 'made.sqlite3'}")
    migrate.upgrade(made)
    made.close()
    words = directory / "words"
    words.write_text("This is a file of words, and no database.\n" * 100)
    return {
        "made": directory / "made.sqlite3",
        "empty": directory / "empty.sqlite3",
        "text": words,
        "directory": directory,
        "state": directory / "state",
    }


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Take back what `byok up` does with signals in this process."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


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
    assert GOOD_OPENAI not in said.err
    if mistake.code == 1:
        assert said.err.startswith("byok: ")
        assert said.err.count("\n") == 1
    if "--json" not in mistake.arguments:
        assert said.out == ""


def test_an_older_version_leaves_a_newer_database_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database(url := f"sqlite:///{tmp_path / 'newer.sqlite3'}")
    migrate.upgrade(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    shell = Shell(monkeypatch, capsys, {"BYOK_STATE_DIR": str(tmp_path), "BYOK_DATABASE_URL": url})
    said = shell.byok("db", "upgrade", "--json")
    assert (said.code, said.object) == (0, {"applied": []})
    assert "A newer version has brought the database to 9999" in said.err
    assert migrate.newer(database) == "9999"
    database.close()


@pytest.mark.parametrize("wrong", ["port", "output"])
def test_what_the_machine_refuses_is_told_in_one_sentence(
    wrong: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "BYOK_STATE_DIR": str(tmp_path),
        "BYOK_DATABASE_URL": f"sqlite:///{stores['made']}",
        "BYOK_BROKER_URL": NOWHERE,
    }
    with socket.create_server(("127.0.0.1", 0)) as taken, Path("/dev/full").open("w") as full:
        environment["BYOK_EXPORTER_PORT"] = str(taken.getsockname()[1])
        arguments = {"port": ["exporter"], "output": ["contract", "refusals"]}[wrong]
        done = subprocess.run(
            [sys.executable, "-m", "workers.cli", *arguments],
            env=environment,
            stdout=full if wrong == "output" else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    if wrong == "port":
        assert last.startswith("byok: BYOK_EXPORTER_HOST and BYOK_EXPORTER_PORT name 127.0.0.1:")
        assert "which cannot be had (Address already in use)" in last
    else:
        assert done.stderr == "byok: The output cannot be written (No space left on device).\n"


def test_there_are_twenty_and_more() -> None:
    assert len(MISTAKES) >= 20
