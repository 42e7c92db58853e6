"""Obviously fake keys and mails, driven through a running system on every path, and all the places
where a piece of one could have been left."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import psutil
import redis

from events import (
    AccountUpdated,
    CreditPeriod,
    KeyAdded,
    KeyTested,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
    ThreadInput,
    seal_key,
)
from tests.integration.process.dying.sitecustomize import RAISE_CALLING, RAISE_READING
from tests.integration.process.running import Up, until
from tests.leaks import Secret

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
PREFIX = {Provider.OPENAI: "sk-proj-sandbox-", Provider.ANTHROPIC: "sk-ant-api03-sandbox-"}

PATIENCE = 90.0
"""Seconds for what a hundred keys and mails wait for in one line."""

VALIDATIONS = (
    *("good", "invalid", "revoked", "deactivated", "restricted", "restrictedall", "ip", "region"),
    *("nomodel", "noquota", "billing", "ratelimited", "error500", "error502", "error503"),
    *("error504", "overloaded", "malformed", "html", "reset"),
)
"""The sandbox's faults, each of which a new key meets."""

ANALYSES = (
    *("toolong", "offschema", "refusal", "length", "empty", "nomodel", "spendlimit", "noquota"),
    *("billing", "revoked", "restrictedall", "ip", "region", "bill-then-drop", "malformed"),
    *("ratelimited", "error500", "overloaded", "html", "reset"),
)
"""The sandbox's faults, each of which a Valid key and a mail meet. Outages come last: they open the
provider's breaker."""


SHAPES = {
    "a key of no provider": "key",
    "a key of the other provider": "sk-ant-api03-sandbox-good",
    "an admin key": "sk-admin-sandbox",
    "a key that no header can carry": "sk-proj-sandbox\u00e9\r\nX-Injected: ",
    "ten thousand letters": "sk-proj-" + "x" * 10_000,
}
"""How keys begin that are Invalid at once."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A fake key, or a text, with a part that stands nowhere else."""

    secret: Secret
    text: str

    @classmethod
    def of(cls, name: str, start: str) -> "Canary":
        """A fresh one; `start` is what everybody may see of it."""
        private = "".join(secrets.choice(ALPHABET) for _ in range(32))
        return cls(Secret(name, private), f"{start}-not-a-real-key-{private}")


@dataclass(slots=True)
class Driven:
    """What went through the system, and what was put on a queue in the clear, against all rules."""

    sealed: list[Canary] = field(default_factory=list)
    in_the_clear: list[Canary] = field(default_factory=list)

    def sealed_one(self, name: str, start: str = "word") -> Canary:
        """A fresh canary that nobody but a worker may read."""
        self.sealed.append(Canary.of(name, start))
        return self.sealed[-1]


def drive(up: Up, directory: Path, trap: Path) -> Driven:
    """Everything, in an order in which nothing holds up what comes after it."""
    driven = Driven()
    know_accounts(up)
    drive_keys(up, driven)
    drive_broken_messages(up, driven)
    drive_mails(up, driven, directory)
    drive_crashes(up, driven, trap)
    drive_provider_errors(up, driven)
    drive_commands(up)
    drive_a_command_that_reads_a_key(up, driven)
    drive_what_stays_on_its_way(up, driven)
    up.await_outbox()
    return driven


def accounts_of(provider: Provider) -> list[str]:
    """An account for each fate that a key of a provider meets."""
    fates = [f"v-{fault}" for fault in VALIDATIONS] + [f"a-{fault}" for fault in ANALYSES]
    return [f"{fate}-{provider.value}" for fate in fates]


def know_accounts(up: Up) -> None:
    """Make all accounts known at once."""
    now = datetime.now(UTC)
    period = CreditPeriod(start=now - timedelta(days=1), end=now + timedelta(days=30))
    for account in (name for provider in Provider for name in accounts_of(provider)):
        # Without credits: what its key cannot pay ends.
        state = AccountUpdated(
            revision=up.road.revision(),
            plan="business",
            ai_consent=True,
            credits=0,
            credit_period=period,
        )
        up.road.publish(state, account)
    # The last one, of all that were published, is known last.
    for account in ("acme", "other", "crashes", "on-its-way", "leaves"):
        up.road.account(account)
    up.road.account("no-consent", consent=False)


def drive_keys(up: Up, driven: Driven) -> None:
    """Keys of every fate: by command and by event, good and bad, sealed wrongly, gone."""
    good = driven.sealed_one("a good key", "sk-proj-sandbox-good")
    bad = driven.sealed_one("a bad key", "sk-ant-api03-sandbox-invalid")
    assert up.add_key("acme", "openai", good.text)["status"] == "valid"
    assert up.add_key("acme", "anthropic", f"  {bad.text}\n")["status"] == "invalid"
    given = [
        give(up, driven.sealed_one(f"a key that meets {fault}", PREFIX[provider] + fault), account)
        for provider in Provider
        for fault, account in zip(VALIDATIONS, accounts_of(provider), strict=False)
    ]
    # Each in an account of its own: of two of one account the later one may be looked at first.
    for name, start in SHAPES.items():
        account = f"shape-{start[:6].lower()}-{len(start)}"
        up.road.account(account)
        given.append(give(up, driven.sealed_one(name, start), account))
    misled = driven.sealed_one("a key sealed for another account", "sk-proj-sandbox-good")
    sealed = seal_key(
        misled.text,
        up.road.settings.sealing_public,
        account="acme",
        provider=Provider.OPENAI,
        key_id="misled",
    )
    up.road.publish(
        KeyAdded(
            revision=up.road.revision(),
            provider=Provider.OPENAI,
            key_id="misled",
            sealed_key=sealed,
        ),
        "other",
    )
    replaced = driven.sealed_one("a key that replaced another", "sk-proj-sandbox-good")
    up.road.give_key(replaced.text, replaces=True)
    removed = driven.sealed_one("a key that was removed", "sk-proj-sandbox-good")
    up.road.remove_key(up.road.give_key(removed.text, "other"), "other")
    # Of an account that is deleted with it.
    gone = driven.sealed_one("a key of a deleted account", "sk-proj-sandbox-good")
    up.road.give_key(gone.text, "leaves")
    for key_id in given:
        until(partial(was_looked_at, up, key_id), f"{key_id} was looked at", PATIENCE)


def give(up: Up, canary: Canary, account: str) -> str:
    """Connect a key without waiting for its verdict; its id."""
    provider = Provider.ANTHROPIC if account.endswith("anthropic") else Provider.OPENAI
    return up.road.give_key(canary.text, account, provider=provider, settled=False)


def was_looked_at(up: Up, key_id: str) -> bool:
    """Whether a key has met its fate."""
    key = up.road.key(key_id)
    return key is not None and (key.status != "pending" or key.validation_failures > 0)


def drive_broken_messages(up: Up, driven: Driven) -> None:
    """Messages that hold a key or a mail in the clear, each broken in another way."""
    key = Canary.of("a key in the clear", "sk-proj-sandbox-good")
    mail = Canary.of("a mail in the clear", "Dear Ann, the word is")
    event = {
        "specversion": "1.0",
        "id": "readable",
        "source": "test/upstream",
        "type": "byok.key.added.v1",
        "time": "2026-01-01T00:00:00Z",
        "subject": "acme",
        "data": {"revision": 1, "provider": "openai", "key_id": "k", "sealed_key": key.text},
    }
    for text in (key.text, mail.text):
        up.push("keys", text)
        up.push("keys", json.dumps({"actor_name": "keys_event", "args": [text]}))
        up.send("keys", text)
        up.send("keys", json.dumps(event | {"data": {"sealed_key": text, text: text}}))
        up.send("keys", json.dumps(event | {"type": text}))
        up.send("keys", json.dumps(event | {"data": {"nested": [{"deeply": {text: text}}]}}))
        up.send("keys", text, text)
        up.send("analyses", json.dumps(event | {"type": "byok.analysis.requested.v1"}))
        up.send("validations", text)
    up.send("keys", json.dumps(event))
    up.await_queues()
    driven.in_the_clear += [key, mail]


def drive_mails(up: Up, driven: Driven, directory: Path) -> None:
    """Mails that are analysed, summarised, answered, skipped, refused and parked."""
    names = ("a subject", "a sender", "a text", "an HTML text", "a file's name")
    subject, sender, text, html, attached = (driven.sealed_one(name) for name in names)
    mail = EmailMessage()
    mail["Subject"] = f"About {subject.secret.private}"
    mail["From"] = f"{sender.secret.private} <ann@example.org>"
    mail["To"] = "bob@example.org"
    mail.set_content(f"Dear Bob, please look at {text.secret.private} today. Ann")
    mail.add_alternative(f"<p>Please look at {html.secret.private}</p>", subtype="html")
    mail.add_attachment(b"nothing", "application", "pdf", filename=attached.secret.private)
    (directory / "canary.eml").write_bytes(mail.as_bytes())
    (directory / "empty.eml").write_bytes(b"")
    done = up.byok("analyze", "acme", str(directory), "--wait", "--json")
    assert [line["state"] for line in done.objects] == ["completed", "refused"]
    for operation in (Operation.SUMMARIZE, Operation.REPLY):
        said = driven.sealed_one(f"a mail for {operation.value}", "Please look at")
        asked = up.road.ask(mail=MailInput(subject="News", text=said.text), operation=operation)
        assert up.road.ended(asked).state == "completed"
    words = driven.sealed_one("a thread", "Please look at")
    message = {"from": "ann@example.org", "to": "bob@example.org", "text": words.text}
    thread = ThreadInput.model_validate({"own_address": "bob@example.org", "messages": [message]})
    asked = up.road.ask(mail=thread, operation=Operation.THREAD_STATE)
    assert up.road.ended(asked).state == "completed"
    skipped = up.road.ask("no-consent", mail=mail_of(driven.sealed_one("a mail that is skipped")))
    assert up.road.ended(skipped, "no-consent").state == "skipped"
    early = driven.sealed_one("a mail that is early")
    await_parked(up, up.road.ask("not-known-yet", mail=mail_of(early)), "not-known-yet")
    of_one_that_leaves = driven.sealed_one("a mail of a deleted account")
    up.road.ended(up.road.ask("leaves", mail=mail_of(of_one_that_leaves)), "leaves")


def mail_of(canary: Canary) -> MailInput:
    """A mail that is all canary."""
    return MailInput(subject=canary.text, text=canary.text)


def await_parked(up: Up, request_id: str, account: str) -> None:
    """Wait until a request waits for a reason, or has ended."""

    def stands() -> bool:
        request = up.road.request(request_id, account)
        return request is not None and request.state != "running" and request.reason != ""

    until(stands, f"the request of {account} has met its fate", PATIENCE)


def drive_crashes(up: Up, driven: Driven, trap: Path) -> None:
    """Errors of our own that quote what they work on, and a worker that ends with a traceback."""
    key = driven.sealed_one("a key in an error's text", "sk-proj-sandbox-none")
    text = driven.sealed_one("a mail in an error's text")
    key_id = up.road.give_key(key.text, "crashes")
    with set_to(trap, RAISE_CALLING, up, errors=2):
        up.road.ask("crashes", mail=mail_of(text))
        up.road.publish(KeyTested(key_id=key_id), "crashes")
    with set_to(trap, RAISE_READING, up, errors=2):
        unread = driven.sealed_one("a mail whose reading fails")
        up.road.ask("crashes", mail=mail_of(unread))
        other = driven.sealed_one("a key whose reading fails", "sk-proj-sandbox-none")
        up.road.give_key(other.text, "crashes", replaces=True, settled=False)
    in_memory = driven.sealed_one("a mail in the memory of a worker that aborts")
    up.sandbox.gate(closed=True)
    up.road.ask("crashes", mail=mail_of(in_memory), provider=ProviderChoice.OPENAI)
    up.sandbox.wait_in_flight(1)
    worker = up.child("worker")
    # `faulthandler` writes the stacks of all threads.
    worker.send_signal(6)
    until(
        lambda: any(process.pid != worker.pid for process in up.children("worker")),
        "another worker is started",
    )
    up.sandbox.gate(closed=False)
    assert up.logged("Fatal Python error: Aborted") == 1


@contextmanager
def set_to(trap: Path, moment: str, up: Up, *, errors: int) -> Iterator[None]:
    """Set the trap, and wait until so many errors of our own were logged."""

    def logged() -> int:
        return up.logged('"event": "analysis_failed"') + up.logged('"event": "internal_error"')

    before = logged()
    trap.write_text(moment)
    try:
        yield
        until(lambda: logged() >= before + errors, f"errors were logged: {moment}")
    finally:
        trap.unlink()


def drive_provider_errors(up: Up, driven: Driven) -> None:
    """Each error of both providers, met by a Valid key and a mail."""
    waits: list[tuple[str, str]] = []
    given: list[tuple[str, str]] = []
    for provider in Provider:
        for fault, account in zip(ANALYSES, accounts_of(provider)[len(VALIDATIONS) :], strict=True):
            key = driven.sealed_one(f"{provider} key, {fault}", f"{PREFIX[provider]}none-{fault}")
            given.append((give(up, key, account), key.text))
    for key_id, _ in given:
        until(
            lambda k=key_id: up.road.key(k) and up.road.key(k).status == "valid", "keys are valid"
        )  # type: ignore[misc,union-attr]  # bound now, asked before
    keys = iter(given)
    for provider in Provider:
        for fault, account in zip(ANALYSES, accounts_of(provider)[len(VALIDATIONS) :], strict=True):
            up.sandbox.fault(fault, key=next(keys)[1], endpoint="completion")
            mail = mail_of(driven.sealed_one(f"{provider} mail, {fault}"))
            choice = ProviderChoice(provider.value)
            waits.append((up.road.ask(account, mail=mail, provider=choice), account))
    for request_id, account in waits:
        await_parked(up, request_id, account)


def drive_commands(up: Up) -> None:
    """Every command that shows something, as a table and as JSON."""
    up.await_outbox()
    listed = up.byok("failed", "list", "--json").objects
    items = [line["id"] for line in listed]
    events = [line["id"] for line in listed if line["event_type"]]
    assert len(items) >= 10
    for arguments in (
        ("doctor", "--json"),
        ("keys", "show", "acme"),
        ("keys", "show", "acme", "--json"),
        ("keys", "history", "other", "--json"),
        ("usage", "acme", "--csv"),
        ("failed", "list"),
        ("failed", "show", items[0]),
        ("failed", "show", items[-1], "--json"),
        ("failed", "retry", *events),
        ("events", "--json"),
        ("account", "delete", "leaves"),
    ):
        done = up.byok(*arguments)
        assert done.code == 0, (arguments, done.err)
        assert done.out, arguments
    up.await_queues()


def drive_a_command_that_reads_a_key(up: Up, driven: Driven) -> None:
    """Look at a process while it has a key in its hands."""
    pasted = driven.sealed_one("a key that is being pasted", "sk-proj-sandbox-good")
    with subprocess.Popen(
        [sys.executable, "-m", "workers.cli.main", "keys", "replace", "acme", "openai", "--wait"],
        cwd=up.directory,
        env=up.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(pasted.text.encode())
        process.stdin.flush()
        up.seen["the command that reads a key"] = shown_of(psutil.Process(process.pid))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    up.seen["what it printed"] = out + err


def drive_what_stays_on_its_way(up: Up, driven: Driven) -> None:
    """Leave a mail in a call, so that it is in a worker's memory when everything is looked at."""
    sent = driven.sealed_one("a mail on its way")
    up.sandbox.clear_faults()
    up.sandbox.gate(closed=True)
    # Anthropic's breaker may be open by now, and OpenAI's: a gate that is never reached hides it
    # as well, so it is not waited for.
    up.road.ask("on-its-way", mail=mail_of(sent))


def places(up: Up) -> dict[str, bytes]:
    """Everything that the system leaves where somebody could look."""
    found = {
        f"file {path.relative_to(up.directory)}": path.read_bytes()
        for path in up.directory.rglob("*")
        # What a provider received is the mail itself; `tests/sent.py` searches it.
        if path.is_file() and path.name != "sandbox.record"
    }
    for number, done in enumerate(up.said):
        found[f"command {number}"] = f"{done.out}\n{done.err}".encode()
    found |= up.seen
    for process in up.processes():
        with suppress(psutil.Error):
            found[f"process {process.pid}"] = shown_of(process)
    found["metrics"] = up.metrics().encode()
    for number, client in enumerate((up.queue, up.app.stream)):
        for name in client.scan_iter(count=1000):
            found[f"valkey {number} {name.decode()}"] = b"\0".join(_values(client, name))
    return found


def shown_of(process: psutil.Process) -> bytes:
    """What everybody (the command line) and its owner (the environment) can see of a process."""
    told = [*process.cmdline(), *process.environ().values()]
    return "\0".join(told).encode("utf-8", "surrogateescape")


def _values(client: redis.Redis, name: bytes) -> Iterator[bytes]:
    yield name
    kind = client.type(name)
    if kind == b"string":
        yield client.get(name) or b""
    elif kind == b"list":
        yield from client.lrange(name, 0, -1)
    elif kind == b"set":
        yield from client.smembers(name)
    elif kind == b"zset":
        yield from client.zrange(name, 0, -1)
    elif kind == b"hash":
        for pair in client.hgetall(name).items():
            yield from pair
    else:
        for _, fields in client.xrange(name):
            for pair in fields.items():
                yield from pair
