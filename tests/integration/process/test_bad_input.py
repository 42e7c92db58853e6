"""What cannot be read or done is told in one sentence, set aside, and stops nothing else."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from events import MailInput, Provider, SealingKeys, SealingPublicKey, seal_input, seal_key
from events.accounts import ACCOUNTS_QUEUE
from events.analyses import ANALYSES_QUEUE
from events.envelope import MAX_EVENT_BYTES
from events.keys import KEYS_QUEUE
from events.usage import USAGE_QUEUE
from store import accounts, setaside
from store.setaside import SetAside
from tests.integration.process.running import MAILS, Done, Up, until
from tests.road import GOOD_OPENAI, MAIL
from workers.queues import VALIDATIONS_QUEUE
from workers.settings import new_named_key

FAR_AHEAD_MS = 4_000_000_000_000

SECONDS = 10.0


def event(up: Up, kind: str, data: dict[str, Any], **attributes: Any) -> str:
    """An event as JSON; `data` and `attributes` may break the contract."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"bad-{up.app.effects.new_id()}",
            "source": "test/upstream",
            "type": f"byok.{kind}",
            "time": datetime.now(UTC).isoformat(),
            "subject": "acme",
            "data": data,
        }
        | attributes
    )


def account_updated(up: Up, **changed: Any) -> dict[str, Any]:
    return {
        "revision": up.road.revision(),
        "plan": "business",
        "ai_consent": True,
        "credits": 10,
        "credit_period": {"start": "2026-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z"},
    } | changed


def key_added(up: Up, sealed: str, key_id: str = "bad") -> str:
    data = {
        "revision": up.road.revision(),
        "provider": "openai",
        "key_id": key_id,
        "sealed_key": sealed,
    }
    return event(up, "key.added.v1", data)


def sealed_key(up: Up, public: SealingPublicKey | None = None, **bound: Any) -> str:
    """A key sealed for the account `acme`, OpenAI and the id `bad`, unless `bound` otherwise."""
    binding = {"account": "acme", "provider": Provider.OPENAI, "key_id": "bad"} | bound
    return seal_key(GOOD_OPENAI, public or up.road.settings.sealing_public, **binding)


def altered(sealed: str) -> str:
    """The same value with one bit of its ciphertext turned over."""
    head, _, body = sealed.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    raw[-1] ^= 1
    return f"{head}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def requested(up: Up, payload: bytes, request_id: str, sealed_for: str | None = None) -> str:
    sealed = seal_input(
        payload,
        up.road.settings.sealing_public,
        account="acme",
        request_id=sealed_for or request_id,
    )
    data = {"request_id": request_id, "operation": "classify", "sealed_input": sealed}
    return event(up, "analysis.requested.v1", data)


def other_sealing_key() -> SealingPublicKey:
    return SealingKeys.parse(new_named_key("sealing")).current


def reuse_a_request_id(up: Up) -> None:
    mine, other = MAIL.to_json(), MailInput(text="something else").to_json()
    up.send(ANALYSES_QUEUE, requested(up, mine, "used-twice"))
    up.road.ended("used-twice")
    up.send(ANALYSES_QUEUE, requested(up, other, "used-twice"))


def send_event(queue: str, make: Callable[[Up], str]) -> Callable[[Up], object]:
    """Put the event that `make` makes on a queue."""
    return lambda up: up.send(queue, make(up))


def send_key(make: Callable[[Up], str]) -> Callable[[Up], object]:
    """Put a `key.added` with the sealed value that `make` makes on its queue."""
    return lambda up: up.send(KEYS_QUEUE, key_added(up, make(up)))


PUSHED: dict[str, tuple[str, str, Callable[[Up], object]]] = {
    "a message that is not JSON": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.push(KEYS_QUEUE, "this is no JSON"),
    ),
    "a message that is not text": (
        *(ANALYSES_QUEUE, "not_a_message"),
        lambda up: up.push(ANALYSES_QUEUE, b"\xff\xfe\x00\x80"),
    ),
    "a message that is a list": (
        *(ACCOUNTS_QUEUE, "not_a_message"),
        lambda up: up.push(ACCOUNTS_QUEUE, "[1, 2]"),
    ),
    "a message that is a word": (
        *(USAGE_QUEUE, "not_a_message"),
        lambda up: up.push(USAGE_QUEUE, '"a word"'),
    ),
    "a message that nests without end": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.push(KEYS_QUEUE, "[" * 100_000),
    ),
    "a message with fields missing": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.push(KEYS_QUEUE, json.dumps({"actor_name": "keys_event", "args": ["{}"]})),
    ),
    "a message whose options are none": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.send(KEYS_QUEUE, "{}", options=None),
    ),
    "a message whose id is a list": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.send(KEYS_QUEUE, "{}", message_id=["x"]),
    ),
    "a message with keyword arguments": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.send(KEYS_QUEUE, kwargs={"event": "{}"}),
    ),
    "a message without an argument": (
        *(KEYS_QUEUE, "not_json"),
        lambda up: up.send(KEYS_QUEUE),
    ),
    "a message with an argument too many": (
        *(ANALYSES_QUEUE, "not_json"),
        lambda up: up.send(ANALYSES_QUEUE, "{}", "{}"),
    ),
    "a message for an unknown actor": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.send(KEYS_QUEUE, "{}", actor_name="nobody"),
    ),
    "a message for another queue": (
        *(KEYS_QUEUE, "not_a_message"),
        lambda up: up.send(KEYS_QUEUE, "{}", queue_name=ANALYSES_QUEUE),
    ),
    "a message for an actor of another queue": (
        *(VALIDATIONS_QUEUE, "not_a_message"),
        lambda up: up.send(VALIDATIONS_QUEUE, "{}", actor_name="keys_event"),
    ),
    "an argument that is no text": (
        *(KEYS_QUEUE, "not_json"),
        lambda up: up.send(KEYS_QUEUE, {"specversion": "1.0"}),
    ),
    "an event that is not JSON": (
        *(KEYS_QUEUE, "not_json"),
        lambda up: up.send(KEYS_QUEUE, "key added: yes"),
    ),
    "an event with half a character": (
        *(KEYS_QUEUE, "not_json"),
        lambda up: up.send(KEYS_QUEUE, "\ud800"),
    ),
    "an event that is a list": (
        *(ACCOUNTS_QUEUE, "not_cloudevent"),
        lambda up: up.send(ACCOUNTS_QUEUE, "[]"),
    ),
    "an event of another specification": (
        *(ACCOUNTS_QUEUE, "not_cloudevent"),
        send_event(
            ACCOUNTS_QUEUE,
            lambda up: event(up, "account.updated.v1", account_updated(up), specversion="0.3"),
        ),
    ),
    "an event of an unknown type": (
        *(KEYS_QUEUE, "unknown_type"),
        send_event(KEYS_QUEUE, lambda up: event(up, "key.borrowed.v1", {})),
    ),
    "an event of an unknown version": (
        *(ANALYSES_QUEUE, "unknown_version"),
        send_event(ANALYSES_QUEUE, lambda up: event(up, "analysis.requested.v7", {})),
    ),
    "an event with fields missing": (
        *(ACCOUNTS_QUEUE, "invalid_event"),
        send_event(ACCOUNTS_QUEUE, lambda up: event(up, "account.updated.v1", {"revision": 1})),
    ),
    "an event with a field too many": (
        *(ACCOUNTS_QUEUE, "invalid_event"),
        send_event(
            ACCOUNTS_QUEUE,
            lambda up: event(up, "account.updated.v1", account_updated(up, favourite="blue")),
        ),
    ),
    "an event without an account": (
        *(ACCOUNTS_QUEUE, "invalid_event"),
        send_event(
            ACCOUNTS_QUEUE,
            lambda up: event(up, "account.updated.v1", account_updated(up), subject=""),
        ),
    ),
    "an event of an unknown provider": (
        *(ANALYSES_QUEUE, "invalid_event"),
        send_event(
            ANALYSES_QUEUE,
            lambda up: event(
                up,
                "analysis.requested.v1",
                {"request_id": "r", "operation": "classify", "provider": "mistral"},
            ),
        ),
    ),
    "an event on the wrong queue": (
        *(ANALYSES_QUEUE, "wrong_queue"),
        send_event(ANALYSES_QUEUE, lambda up: key_added(up, sealed_key(up))),
    ),
    "an event above 256 KiB": (
        *(KEYS_QUEUE, "too_large"),
        lambda up: up.send(KEYS_QUEUE, "x" * (MAX_EVENT_BYTES + 1)),
    ),
    "a key that is not sealed": (KEYS_QUEUE, "invalid_event", send_key(lambda up: "not-sealed")),
    "a sealed key that was cut": (
        *(KEYS_QUEUE, "seal_broken"),
        send_key(lambda up: sealed_key(up)[:-10]),
    ),
    "a sealed key that was altered": (
        *(KEYS_QUEUE, "seal_broken"),
        send_key(lambda up: altered(sealed_key(up))),
    ),
    "a key sealed for another account": (
        *(KEYS_QUEUE, "seal_broken"),
        send_key(partial(sealed_key, account="other")),
    ),
    "a key sealed for another provider": (
        *(KEYS_QUEUE, "seal_broken"),
        send_key(partial(sealed_key, provider=Provider.ANTHROPIC)),
    ),
    "a key sealed for another id": (
        *(KEYS_QUEUE, "seal_broken"),
        send_key(partial(sealed_key, key_id="good")),
    ),
    "a key sealed for an unknown sealing key": (
        *(KEYS_QUEUE, "seal_unknown_key"),
        send_key(lambda up: sealed_key(up, other_sealing_key())),
    ),
    "an input sealed for another request": (
        *(ANALYSES_QUEUE, "seal_broken"),
        send_event(ANALYSES_QUEUE, lambda up: requested(up, MAIL.to_json(), "r1", "r2")),
    ),
    "a sealed input that is no mail": (
        *(ANALYSES_QUEUE, "invalid_input"),
        send_event(ANALYSES_QUEUE, lambda up: requested(up, b'{"attachment": "x"}', "r3")),
    ),
    "a request id used again for another mail": (
        *(ANALYSES_QUEUE, "id_conflict"),
        reuse_a_request_id,
    ),
    "usage rows of another version": (
        *(USAGE_QUEUE, "invalid_event"),
        send_event(USAGE_QUEUE, lambda up: event(up, "usage.recorded.v1", {"rows": [{"a": 1}]})),
    ),
    "usage rows with the wrong kinds of values": (
        *(USAGE_QUEUE, "invalid_event"),
        send_event(
            USAGE_QUEUE,
            lambda up: event(up, "usage.recorded.v1", {"rows": [broken_row(up)]}),
        ),
    ),
}


def broken_row(up: Up) -> dict[str, Any]:
    up.road.ended(up.road.ask())
    row = json.loads(up.road.settled_ledger()[-1].to_json())
    return row | {"id": "broken", "input_tokens": {"many": 1}}


@pytest.fixture(scope="module", autouse=True)
def _account(up: Up) -> None:
    up.road.account()


def set_aside(up: Up) -> dict[str, SetAside]:
    with up.app.database.read() as connection:
        return {item.id: item for item in setaside.newest(connection, 1000)}


def assert_the_queue_is_alive(up: Up, queue: str) -> None:
    """What is sent after the bad thing is handled as ever."""
    account = f"good-{up.app.effects.new_id()}"
    up.road.account(account)
    match queue:
        case "keys" | "validations":
            key_id = up.road.give_key(GOOD_OPENAI, account)
            key = up.road.key(key_id)
            assert key is not None
            assert key.status == "valid"
        case "analyses":
            assert up.road.ended(up.road.ask(account), account).state == "completed"
        case "usage":
            up.road.ended(up.road.ask(account), account)
            assert up.road.settled_ledger()
        case _:
            assert queue == ACCOUNTS_QUEUE


@pytest.mark.parametrize("what", PUSHED)
def test_what_is_bad_on_a_queue_is_set_aside_with_its_reason_and_blocks_nothing(
    up: Up, what: str
) -> None:
    queue, reason, push = PUSHED[what]
    before = set_aside(up)
    counted = up.metric("byok_set_aside_total", queue=queue, reason=reason)
    push(up)
    up.await_queues(SECONDS)
    (item,) = (item for key, item in set_aside(up).items() if key not in before)
    assert (item.queue, item.reason) == (queue, reason)
    assert item.sentence.strip().endswith(".")
    assert "\n" not in item.sentence
    assert up.metric("byok_set_aside_total", queue=queue, reason=reason) == counted + 1
    assert_the_queue_is_alive(up, queue)
    up.await_queues(SECONDS)


def test_the_same_bad_message_many_times_is_one_entry_and_leaves_nothing_behind(up: Up) -> None:
    before = set_aside(up)
    for _ in range(5):
        up.push(KEYS_QUEUE, "the same again")
    up.await_queues(SECONDS)
    assert len(set_aside(up)) == len(before) + 1


def test_an_eta_delays_nothing(up: Up) -> None:
    body = event(up, "account.updated.v1", account_updated(up), subject="no-delay")
    message_id = up.app.effects.new_id()
    options = {"redis_message_id": message_id, "eta": FAR_AHEAD_MS}
    up.send(ACCOUNTS_QUEUE, body, message_id=message_id, options=options)
    up.await_queues(SECONDS)
    with up.app.database.read() as connection:
        assert accounts.find(connection, "no-delay") is not None


def test_good_messages_between_bad_ones_are_handled(up: Up) -> None:
    up.road.account("between")
    asked = []
    for number in range(10):
        up.push(ANALYSES_QUEUE, f"garbage {number}")
        up.send(ANALYSES_QUEUE, "{}", message_id={"number": number})
        asked.append(up.road.ask("between"))
        up.send(ANALYSES_QUEUE, f"no event {number}")
    assert {up.road.ended(one, "between").state for one in asked} == {"completed"}
    up.await_queues(SECONDS)


def test_failed_list_tells_of_each_in_one_line(up: Up) -> None:
    up.push(KEYS_QUEUE, "for the list")
    up.await_queues(SECONDS)
    done = up.byok("failed", "list", "--json", "--limit", "1000")
    assert done.code == 0
    kept = set_aside(up)
    assert {item["id"]: item["reason"] for item in done.objects} == {
        item.id: item.reason for item in kept.values()
    }
    assert all(item["sentence"].endswith(".") for item in done.objects)


def test_retrying_all_sends_what_can_be_sent_and_keeps_what_is_no_message(up: Up) -> None:
    event = json.dumps({"type": "byok.unheard.of.v1"})
    up.push(KEYS_QUEUE, "no message at all")
    up.send(KEYS_QUEUE, event)
    up.await_queues(SECONDS)
    kept = {item.id for item in set_aside(up).values()}
    counted = up.metric("byok_set_aside_total", queue=KEYS_QUEUE)
    done = up.byok("failed", "retry", "--all", "--json")
    assert done.code == 1
    assert "drop them by their ids" in done.err
    assert 0 < done.object["retried"] < len(kept)
    up.await_queues(SECONDS)
    # What was refused before is refused again, under the same id.
    still = {item.id for item in set_aside(up).values()}
    assert {id_of("no message at all"), id_of(event)} <= still
    assert up.metric("byok_set_aside_total", queue=KEYS_QUEUE) > counted


def id_of(raw: str) -> str:
    """The id under which a message on the queue `keys` is set aside: its content's."""
    return sha256(f"{KEYS_QUEUE}\n{raw}".encode()).hexdigest()[:32]


def mail_with(*headers: str, body: bytes = b"") -> bytes:
    return "\n".join(headers).encode() + b"\n\n" + body


@pytest.fixture(scope="module")
def odd_mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mails of which some cannot be read, beside a good one."""
    directory = tmp_path_factory.mktemp("odd")
    huge = EmailMessage()
    huge["Subject"], huge["From"] = "Ten megabytes", "ann@example.org"
    huge.set_content("All work and no play. " * (10 * 1024 * 1024 // 22))
    own = ("From: ann@example.org", "Subject: Hello")
    for name, raw in {
        "a-no-mail": b"\x00\x00\x00\n\n\n",
        "b-empty-file": b"",
        "c-unknown-charset": mail_with(
            *own, 'Content-Type: text/plain; charset="klingon-8"', body=b"gr\xfc\xdfe"
        ),
        "d-empty-body": mail_with(*own),
        "e-huge": huge.as_bytes(),
        "f-broken": mail_with(*own, "Content-Type: multipart/mixed", body=b"--x\n\n--"),
        "g-good": (MAILS / "easy-ham-1-00386.eml").read_bytes(),
    }.items():
        (directory / f"{name}.eml").write_bytes(raw)
    return directory


def test_mails_that_cannot_be_read_are_refused_and_the_others_are_analysed(
    up: Up, odd_mails: Path
) -> None:
    done = up.byok("analyze", "acme", str(odd_mails), "--wait", "--json")
    assert done.code == 1
    assert {line["file"][0]: line["state"] for line in done.objects} == {
        **dict.fromkeys("ab", "refused"),
        **dict.fromkeys("cdefg", "completed"),
    }
    assert [line["reason"] for line in done.objects][:2] == [
        "The file is empty: there is no mail in it."
    ] * 2
    told = done.err.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        "a-no-mail.eml",
        "b-empty-file.eml",
        "byok",
    ]


def test_a_key_of_the_wrong_shape_is_invalid_with_its_reason_and_not_kept(up: Up) -> None:
    key = up.add_key("acme", "openai", "this is no key")
    assert (key["status"], key["reason"], key["last4"]) == ("invalid", "malformed", "")
    for pasted, reason in (
        ("sk-ant-api03-sandbox-good-not-a-real-key", "wrong_provider"),
        ("sk-admin-sandbox-good-not-a-real-key", "wrong_kind"),
    ):
        found = up.road.key(up.road.give_key(pasted, provider=Provider.OPENAI))
        assert found is not None
        assert (found.status, found.reason, found.last4) == ("invalid", reason, "")


REFUSED: dict[str, tuple[list[str], str]] = {
    "no account": (["analyze", "nobody", str(MAILS)], ""),
    "no file": (["analyze", "acme", "nothing.eml"], ""),
    "no key": (["keys", "add", "acme", "openai"], "  \n"),
    "a key that is a book": (["keys", "add", "acme", "openai"], "x" * 30_000),
}

WRONG_USAGE: dict[str, list[str]] = {
    "an unknown provider": ["keys", "add", "acme", "mistral"],
    "an unknown operation": ["analyze", "acme", str(MAILS), "--operation", "paint"],
    "an unknown window": ["usage", "acme", "--days", "8"],
    "an account's name that is none": ["account", "set", "a b", "--plan", "pro"],
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_command_that_cannot_be_done_says_why_in_one_sentence(up: Up, what: str) -> None:
    arguments, stdin = REFUSED[what]
    done = up.byok(*arguments, stdin=stdin)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("byok: ")
    assert done.err.rstrip().endswith((".", "`."))


@pytest.mark.parametrize("what", WRONG_USAGE)
def test_a_command_that_is_used_wrongly_says_so(up: Up, what: str) -> None:
    done: Done = up.byok(*WRONG_USAGE[what])
    assert (done.code, done.out) == (2, "")
    assert "Error" in done.err


def test_nothing_of_this_stopped_anything(up: Up) -> None:
    until(lambda: len(up.children("worker")) == 1, "the worker runs")
    assert up.logged("child_died") == 0
    assert up.logged("Traceback") == 0
