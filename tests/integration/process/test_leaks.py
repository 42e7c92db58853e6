"""No key that was used, and no word of a mail, is found in anything that the system leaves."""

import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import redis
from sqlalchemy import insert

from events import KeyAdded, MailInput, Provider, seal_key
from store.schema import cooldowns
from tests.integration.process.running import Up, until
from tests.leaks import PIECE, Secret, search

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Canary:
    """A fake key, or a text, with a part that stands nowhere else."""

    secret: Secret
    text: str

    @classmethod
    def of(cls, name: str, start: str) -> "Canary":
        private = "".join(secrets.choice(ALPHABET) for _ in range(32))
        return cls(Secret(name, private), f"{start}-not-a-real-key-{private}")


@dataclass(frozen=True, slots=True)
class Driven:
    """What went through the system, and what was put on a queue in the clear, against all rules."""

    sealed: list[Canary]
    in_the_clear: list[Canary]


@pytest.fixture(scope="module")
def up_environment() -> dict[str, str]:
    return {"BYOK_LOG_LEVEL": "debug"}


@pytest.fixture(scope="module")
def driven(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    keys = drive_keys(up)
    in_the_clear = drive_broken_messages(up)
    mails = drive_mails(up, tmp_path_factory.mktemp("canaries"))
    up.await_outbox()
    for arguments in (("doctor",), ("keys", "show", "acme"), ("failed", "list")):
        assert up.byok(*arguments).code == 0
    return Driven([*keys, *mails], in_the_clear)


def drive_keys(up: Up) -> list[Canary]:
    """Keys of every fate: by command and by event, good and bad, sealed wrongly, gone."""
    up.road.account("acme")
    up.road.account("other")
    good = Canary.of("a good key", "sk-proj-sandbox-good")
    bad = Canary.of("a bad key", "sk-ant-api03-sandbox-invalid")
    assert up.add_key("acme", "openai", good.text)["status"] == "valid"
    assert up.add_key("acme", "anthropic", f"  {bad.text}\n")["status"] == "invalid"
    fates = {
        "a key without quota": "sk-proj-sandbox-noquota",
        "a key that is revoked": "sk-proj-sandbox-revoked",
        "a key whose provider fails": "sk-proj-sandbox-error500",
        "a key whose provider talks HTML": "sk-proj-sandbox-html",
        "a key of no provider": "key",
        "a key of the other provider": "sk-ant-api03-sandbox-good",
        "an admin key": "sk-admin-sandbox",
        "a key that no header can carry": "sk-proj-sandbox\u00e9\r\nX-Injected: ",
    }
    others = [Canary.of(name, start) for name, start in fates.items()]
    for number, one in enumerate(others):
        account = f"fate-{number}"
        up.road.account(account)
        key_id = up.road.give_key(one.text, account, provider=Provider.OPENAI, settled=False)
        up.road.until(lambda key_id=key_id: was_looked_at(up, key_id))
    misled = Canary.of("a key sealed for another account", "sk-proj-sandbox-good")
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
    replaced = Canary.of("a key that replaced another", "sk-proj-sandbox-good")
    up.road.give_key(replaced.text, replaces=True)
    removed = Canary.of("a key that was removed", "sk-proj-sandbox-good")
    up.road.remove_key(up.road.give_key(removed.text, "other"), "other")
    return [good, bad, *others, misled, replaced, removed]


def was_looked_at(up: Up, key_id: str) -> bool:
    key = up.road.key(key_id)
    return key is not None and (key.status != "pending" or key.validation_failures > 0)


def drive_broken_messages(up: Up) -> list[Canary]:
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
        up.send("keys", text, text)
        up.send("analyses", json.dumps(event | {"type": "byok.analysis.requested.v1"}))
        up.send("validations", text)
    up.send("keys", json.dumps(event))
    up.await_queues()
    return [key, mail]


def drive_mails(up: Up, directory: Path) -> list[Canary]:
    """Mails that are analysed, skipped, refused, parked and, at the end, on their way."""
    names = ("a subject", "a sender", "a text", "an HTML text", "a file's name")
    subject, sender, text, html, attached = (Canary.of(name, "word") for name in names)
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

    fates = [Canary.of(f"a mail that is {fate}", "word") for fate in ("skipped", "early", "parked")]
    skipped, early, parked = (
        MailInput.model_validate({"subject": one.text, "text": one.text}) for one in fates
    )
    up.road.account("no-consent", consent=False)
    assert up.road.ended(up.road.ask("no-consent", mail=skipped), "no-consent").state == "skipped"
    waits = [(up.road.ask("not-known-yet", mail=early), "not-known-yet")]
    up.sandbox.fault("ratelimited", provider="openai", endpoint="completion", retry_after=600)
    waits.append((up.road.ask("acme", mail=parked), "acme"))
    for request_id, account in waits:
        until(lambda r=request_id, a=account: is_parked(up, r, a), "the mail is parked")
    up.sandbox.clear_faults()
    sent = Canary.of("a mail on its way", "word")
    up.road.account("on-its-way")
    up.sandbox.gate(closed=True)
    up.road.ask("on-its-way", mail=MailInput(text=sent.text))
    up.sandbox.wait_in_flight(1)
    return [subject, sender, text, html, attached, *fates, sent]


def is_parked(up: Up, request_id: str, account: str) -> bool:
    request = up.road.request(request_id, account)
    return request is not None and request.state == "waiting" and request.reason != ""


def places(up: Up) -> dict[str, bytes]:
    """Everything that the system leaves where somebody could look."""
    found = {
        f"file {path.relative_to(up.directory)}": path.read_bytes()
        for path in up.directory.rglob("*")
        if path.is_file()
    }
    for number, done in enumerate(up.said):
        found[f"command {number}"] = f"{done.out}\n{done.err}".encode()
    for process in up.processes():
        with suppress(psutil.Error):
            told = [*process.cmdline(), *process.environ().values()]
            found[f"process {process.pid}"] = "\0".join(told).encode("utf-8", "surrogateescape")
    found["metrics"] = up.metrics().encode()
    for number, client in enumerate((up.queue, up.app.stream)):
        for name in client.scan_iter(count=1000):
            found[f"valkey {number} {name.decode()}"] = b"\0".join(_values(client, name))
    return found


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


def test_what_was_driven_through_the_system_is_found_nowhere(up: Up, driven: Driven) -> None:
    everywhere = places(up)
    kinds = {"byok.sqlite3", "byok.sqlite3-wal", ".aof", "up.stderr", "metrics", "byok:events"}
    for kind in kinds:
        assert any(content for place, content in everywhere.items() if place.endswith(kind)), kind
    assert len([place for place in everywhere if place.startswith("process")]) >= 7
    hits = search(everywhere, [one.secret for one in driven.sealed])
    assert not hits, hits


def test_what_came_in_the_clear_stays_on_the_queue_it_was_put_on(up: Up, driven: Driven) -> None:
    # The queue's own file has what others wrote to the queue; nothing carries it any further.
    beyond = {place: content for place, content in places(up).items() if "valkey/" not in place}
    hits = search(beyond, [one.secret for one in driven.in_the_clear])
    assert not hits, hits


def test_the_worker_had_to_handle_what_it_was_sent(up: Up, driven: Driven) -> None:
    assert driven.sealed
    assert up.metric("byok_analyses_total", outcome="completed") >= 1
    assert up.metric("byok_analyses_total", outcome="skipped") >= 1
    assert up.metric("byok_key_validations_total") >= 6
    assert up.metric("byok_set_aside_total") >= 10
    assert up.logged('"level": "debug"') > 0


@pytest.fixture
def planted(up: Up, driven: Driven) -> Iterator[Secret]:
    """A secret that was put into each kind of place on purpose."""
    private = Canary.of("planted", "").secret.private
    with up.app.database.write() as connection:
        connection.execute(insert(cooldowns).values(scope=private, until_at=2**53, reason="plant"))
    up.queue.set("planted", private)
    up.app.stream.xadd("byok:events", {"event": json.dumps({"type": "planted", "at": private})})
    with up.stderr.open("a") as log:
        log.write(f"{private}\n")
    planting = (
        "import sys; from pathlib import Path; from metrics.instruments import open_instruments;"
        "open_instruments(Path(sys.argv[1])).parked.labels(sys.argv[2]).inc();"
        "print('planted', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", planting, str(up.state_dir / "metrics"), private],
        env=up.environment | {"PLANTED": private},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"planted\n"
            yield Secret("planted", private)
        finally:
            process.kill()


def test_a_planted_secret_is_found_in_each_place(up: Up, planted: Secret) -> None:
    found = {hit.place for hit in search(places(up), [planted])}
    for kind in ("sqlite3-wal", ".aof", "up.stderr", "metrics", "byok:events", "planted"):
        assert any(place.endswith(kind) for place in found), kind
    (process,) = (place for place in found if place.startswith("process"))
    argv = {process: "\0".join(psutil.Process(int(process.split()[1])).cmdline()).encode()}
    assert search(argv, [planted])


ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "reversed": lambda text: text[::-1],
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 after 1": lambda text: base64.b64encode(b"x" + text.encode()).decode(),
    "base64 after 2": lambda text: base64.b64encode(b"xy" + text.encode() + b"z").decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"~{text}~?".encode()).decode(),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "percent, lower": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "in a URL": lambda text: quote(f"https://example.org/?key={text}", safe=""),
    "json": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "in JSON": lambda text: json.dumps({"key": f'"{text}"\n'}),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_twelve_characters_of_a_secret_are_found_in_each_encoding(encoding: str) -> None:
    # Characters that base64's two alphabets write differently are among them.
    private = "Zq8~vT?n3LxW>5p_Rk7-YmB2cHd9F~?>ab"
    encode = ENCODINGS[encoding]
    noise = secrets.token_bytes(1000).replace(b"Zq8", b"")
    for start in range(len(private) - PIECE + 1):
        piece = private[start : start + PIECE]
        place = noise + encode(piece).encode() + noise
        assert search({"place": place}, [Secret("it", private)]), piece
    assert not search({"place": noise * 100}, [Secret("it", private)])


def test_what_is_shown_of_a_key_on_purpose_is_no_hit() -> None:
    secret = Secret("it", "Zq8vTn3LxW5pRk7YmB2cHd9F")
    shown = b"sk-proj-sandbox-good-not-a-real-key-Zq8v...Hd9F, the key that ends with Hd9F"
    assert search({"place": shown}, [secret]) == []


def test_a_hit_shows_nothing_of_the_secret() -> None:
    secret = Secret("it", "Zq8vTn3LxW5pRk7YmB2cHd9F")
    hits = search({"place": b"..Zq8vTn3LxW5pRk7YmB2cHd9F"}, [secret])
    assert "Zq8v" not in repr((hits, secret))
