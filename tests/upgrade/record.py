"""Records a system in the midst of its work: its store, and all that went over its queue.

It is run on an older version to have its recording, from a checkout of that:

    git worktree add ../older COMMIT && cd ../older
    PYTHONPATH=. .venv/bin/python .../tests/upgrade/record.py .../tests/upgrade/recorded/NNNN.json

So it speaks to what `tests/road.py` has had from the start, and to nothing newer. Each recording
is named for the last migration of its version; it is never made anew.
"""

import base64
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import dramatiq.brokers.redis
import redis.commands.core

from deploy.local.sandbox import SandboxServer
from deploy.local.valkey import socket_path
from events import AccountDeleted, AccountUpdated, KeyReplaced, KeyTested, Provider, Publisher
from store import accounts
from tests import road as roads
from tests.road import GOOD_ANTHROPIC, GOOD_OPENAI, MAIL, Road, make_settings

REFUSED = "sk-proj-sandbox-revoked-openai-not-a-real-key-0001"
SLOWED = "sk-proj-sandbox-good-openai-not-a-real-key-0002"
LATE = "sk-proj-sandbox-good-openai-not-a-real-key-0003"
MACHINE_MAIL = MAIL.model_copy(update={"headers": {"Auto-Submitted": "auto-replied"}})


class Queue:
    """Every message that was put on a queue, as it lay there; usage may be lost on the way."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        self.unbooked = 0
        """How many rows of requests `completed-unbooked` were sent."""
        self.loses_usage = False
        real = dramatiq.brokers.redis.RedisBroker.enqueue

        def enqueue(broker: Any, message: Any, *, delay: int | None = None) -> Any:
            if self.loses_usage and message.queue_name == "usage":
                sent = message
            else:
                sent = real(broker, message, delay=delay)
            self.messages.append({"queue": sent.queue_name, "message": sent.encode().decode()})
            if sent.queue_name == "usage":
                self.unbooked += sent.args[0].count("completed-unbooked")
            return sent

        dramatiq.brokers.redis.RedisBroker.enqueue = enqueue


def lose_out_events() -> None:
    """From here on nothing comes onto the out-event stream: it stays in the outbox."""

    def xadd(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("recorded")

    redis.commands.core.StreamCommands.xadd = xadd


def is_gone(road: Road, account: str) -> bool:
    with road.app.database.read() as connection:
        found = accounts.find(connection, account)
    return found is None


def ended(road: Road) -> None:
    """Requests in every terminal state, by every way that leads there; all of it is booked."""
    # Where versions know of budgets already, its calls hold something of one.
    capped = {"budget_usd": "100"} if "budget_usd" in AccountUpdated.model_fields else {}
    road.account("acme", credits=None, **capped)
    road.give_key(GOOD_OPENAI, "acme", key_id="key-acme")
    road.account("bare", credits=10)
    road.account("poor", credits=0)
    road.account("refused")
    road.give_key(REFUSED, "refused", key_id="key-refused")
    road.account("quiet", consent=False)
    road.account("moved", credits=10)
    road.give_key(GOOD_OPENAI, "moved", key_id="key-moved-1")
    road.give_key(GOOD_OPENAI, "moved", key_id="key-moved-2", replaces=True)
    road.give_key(GOOD_ANTHROPIC, "moved", key_id="key-moved-3")
    road.remove_key("key-moved-3", "moved")
    road.account("gone", credits=10)
    for account, name, mail in (
        ("acme", "completed-own-key", None),
        ("acme", "completed-rules", MACHINE_MAIL),
        ("acme", "completed-first", MAIL),
        ("acme", "completed-reuse", MAIL),
        ("bare", "completed-platform", None),
        ("poor", "skipped-credits", None),
        ("refused", "failed-key", None),
        ("quiet", "skipped-consent", None),
        ("moved", "completed-moved", None),
        ("gone", "completed-gone", None),
    ):
        road.ask(account, request_id=name, mail=mail)
        road.ended(name, account)
    road.settled_ledger()
    road.publish(AccountDeleted(revision=road.revision()), "gone")
    road.until(lambda: is_gone(road, "gone"))


def on_the_way(road: Road, queue: Queue) -> None:
    """What is not ended: parked, in flight, ended and not booked, ahead of its account."""
    road.account("slow", credits=10)
    road.give_key(SLOWED, "slow", key_id="key-slow")
    road.sandbox.fault("ratelimited", key=SLOWED, endpoint="completion", retry_after=60)
    road.ask("slow", request_id="waiting-rate")
    road.until(lambda: (r := road.request("waiting-rate", "slow")) and r.reason == "rate_limited")
    road.account("late", credits=10)
    road.sandbox.fault("error503", key=LATE, endpoint="models")
    road.give_key(LATE, "late", key_id="key-late", settled=False)
    road.until(lambda: road.key("key-late"))
    road.ask("late", request_id="waiting-verdict")
    road.until(lambda: (r := road.request("waiting-verdict", "late")) and r.reason == "key_pending")
    road.app.publisher.send("keys", "keys_event", json.dumps({"type": "byok.unheard.of.v1"}))

    queue.loses_usage = True
    lose_out_events()
    for account, name in (("acme", "completed-unbooked"), ("bare", "completed-unbooked")):
        road.ask(account, request_id=name)
        road.ended(name, account)
    # Both rows, each of which is noted as sent before it is.
    road.until(lambda: queue.unbooked >= 2)
    road.sandbox.gate(closed=True)
    road.ask("acme", request_id="running-own-key")
    road.ask("bare", request_id="running-platform")
    road.sandbox.wait_in_flight(2)
    # Last of all: an event waits for its account for a minute, and is then refused.
    road.give_key(GOOD_OPENAI, "early", key_id="key-early", settled=False)
    road.ask("early", request_id="waiting-account")
    road.until(lambda: road.request("waiting-account", "early") and road.waiting_events())


def not_taken(publisher: Publisher, road: Road) -> None:
    """Messages that no worker has taken yet."""
    road.app.__dict__["publisher"] = publisher
    road.ask("acme", request_id="queued-own-key")
    road.ask("bare", request_id="queued-platform")
    road.publish(KeyTested(key_id="key-acme"), "acme")
    sealed = road.sealed_key(GOOD_OPENAI, "moved", Provider.OPENAI, "key-moved-4")
    road.publish(
        KeyReplaced(
            revision=road.revision(),
            provider=Provider.OPENAI,
            key_id="key-moved-4",
            sealed_key=sealed,
            allow_platform_fallback=False,
        ),
        "moved",
    )


def stored(path: Path) -> dict[str, Any]:
    """Every row of a SQLite database in one moment, and its last migration."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN")
        connection.row_factory = sqlite3.Row
        names = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
        ]
        tables = {
            name: [
                {
                    field: {"b64": base64.b64encode(value).decode()}
                    if isinstance(value, bytes)
                    else value
                    for field, value in zip(row.keys(), row, strict=True)
                }
                for row in connection.execute(f"SELECT * FROM {name}")  # noqa: S608 -- its own names
            ]
            for name in names
        }
    ((version,),) = (row.values() for row in tables.pop("alembic_version"))
    return {"revision": version, "tables": {name: rows for name, rows in tables.items() if rows}}


def start_valkey(directory: Path) -> str:
    """A Valkey that ends with this process; its URL."""
    path, ready = socket_path(directory), directory / "ready"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "deploy.local.valkey", "--dir", str(directory)),
            *("--socket", str(path), "--ready-file", str(ready), "--stop-on-stdin-eof"),
        ],
        stdin=subprocess.PIPE,
    )
    while not ready.exists():
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return f"unix://{path}"


def record(directory: Path) -> dict[str, Any]:
    """The recording of the version that is imported. Worker and scheduler are left running."""
    socket.gethostname = lambda: "older.example"
    queue, path = Queue(), directory / "byok.sqlite3"
    valkey, sandbox = start_valkey(directory), SandboxServer().start()
    settings = make_settings(
        directory,
        broker=f"{valkey}?db=0",
        redis_url=f"{valkey}?db=1",
        database=f"sqlite:///{path}",
        sandbox=sandbox,
    )
    road = Road(settings, sandbox)
    road.start()
    ended(road)
    on_the_way(road, queue)
    found = stored(path) | {"at": road.app.effects.now_ms()}
    # Beside the stream, where no worker looks for messages.
    taken = len(queue.messages)
    aside = Publisher(f"{valkey}?db=1", source="test/upstream", signing_key=roads.SIGNING_KEY)
    not_taken(aside, road)
    return found | {"taken": queue.messages[:taken], "not_taken": queue.messages[taken:]}


def main(target: Path) -> None:
    """Write the recording, and end without the end of anything: what is in flight is to stay so."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            found = record(Path(directory))
        except BaseException:  # noqa: BLE001 -- threads are running that nothing would end
            traceback.print_exc()
            os._exit(1)
        target.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
