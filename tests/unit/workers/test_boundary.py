"""A message is acted on, or set aside with its reason, or stays with the broker. Nothing else."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from events import Envelope, EventRefused, KeyTested
from store import outbox, setaside, waiting
from store.masterkeys import LocalKeyRing
from store.setaside import SetAside
from store.vault import Vault
from tests.unit.workers.standins import Notebook, clockwork_of, signed_event
from workers.app import App
from workers.boundary import (
    DRAIN_SECONDS,
    LONGEST_PAUSE,
    Handlers,
    Stopping,
    patiently,
    persistently,
    take,
    take_event,
)
from workers.lease import LeaseLost

SECRET = "sk-proj-fake-hunter2-not-a-real-key"
TESTED = KeyTested(key_id="key-1")
Act = Callable[[App, Envelope, Any], None]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """What the boundary logs."""
    notebook = Notebook()
    for module in ("boundary", "refusals"):
        monkeypatch.setattr(f"workers.{module}.log", notebook)
    return notebook


def handlers(act: Act) -> Handlers:
    return Handlers("keys", {KeyTested: act})


def unexpected(app: App, envelope: Envelope, data: Any) -> None:
    raise AssertionError("it must not be acted on")


def raising(*errors: BaseException) -> tuple[Act, list[str]]:
    """A handler that raises these errors one after the other, and then notes the event."""
    waiting = list(errors)
    taken: list[str] = []

    def act(app: App, envelope: Envelope, data: Any) -> None:
        if waiting:
            raise waiting.pop(0)
        taken.append(envelope.id)

    return act, taken


def away() -> OperationalError:
    """What a database that cannot be reached raises."""
    return OperationalError("", None, Exception("connection refused"))


def kept(app: App) -> list[tuple[SetAside, bytes]]:
    """What was set aside, with its content."""
    with app.database.read() as connection:
        return [
            (item, setaside.payload(connection, app.vault, item.id))
            for item in setaside.newest(connection)
        ]


def rejections(app: App) -> list[dict[str, Any]]:
    """What upstream is told of refused events."""
    with app.database.write() as connection:
        rows = outbox.take_due(connection, outbox.EVENT, app.effects.now_ms(), 100)
    events = [json.loads(row.payload) for row in rows]
    return [event["data"] for event in events if event["type"] == "byok.event.rejected.v1"]


# Acting


def test_an_event_is_given_to_the_handler_of_its_type(app: App, log: Notebook) -> None:
    seen: list[tuple[str, Any]] = []
    take_event(
        app,
        handlers(lambda _app, envelope, data: seen.append((envelope.subject, data))),
        [signed_event(TESTED)],
    )
    assert seen == [("acme", TESTED)]
    assert kept(app) == []


def test_an_event_of_another_queue_is_set_aside(app: App, log: Notebook) -> None:
    take_event(app, Handlers("accounts", {}), [signed_event(TESTED)])
    ((item, _),) = kept(app)
    assert (item.reason, item.queue, item.event_type) == (
        "wrong_queue",
        "accounts",
        "byok.key.tested.v1",
    )


# Setting aside


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("", "not_json"),
        ("hello", "not_json"),
        ("\ud800", "not_json"),
        ("[" * 30_000, "not_json"),
        ("[]", "not_cloudevent"),
        ('{"specversion": "1.0", "type": "byok.key.stolen.v1"}', "unknown_type"),
        ('{"specversion": "1.0", "type": "byok.key.tested.v9"}', "unknown_version"),
        ('{"specversion": "1.0", "type": "byok.key.tested.v\u00b2"}', "unknown_type"),
        ('{"specversion": "1.0", "type": "byok.key.tested.v1"}', "unsigned"),
        ("x" * 300_000, "too_large"),
    ],
)
def test_what_cannot_be_read_is_set_aside_as_it_came(
    app: App, log: Notebook, argument: str, reason: str
) -> None:
    take_event(app, handlers(unexpected), [argument])
    ((item, payload),) = kept(app)
    assert (item.reason, item.queue) == (reason, "keys")
    assert payload == argument.encode("utf-8", "surrogatepass")
    assert item.sentence


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [None],
        [7],
        [{"specversion": "1.0", "id": "evt-9"}],
        [["a", "list"]],
        ["one", "two"],
        [True],
        [{"half": "\ud800"}],
    ],
)
def test_arguments_that_are_no_text_are_set_aside_with_what_they_said(
    app: App, log: Notebook, arguments: list[Any]
) -> None:
    take_event(app, handlers(unexpected), arguments)
    ((item, payload),) = kept(app)
    assert item.reason == "not_json"
    said = json.loads(payload)
    assert said == (arguments[0] if len(arguments) == 1 else arguments)


def test_two_messages_of_another_form_are_two_entries(app: App, log: Notebook) -> None:
    for number in (1, 2):
        take_event(app, handlers(unexpected), [{"number": number}])
    assert len(kept(app)) == 2


def test_an_altered_event_is_set_aside(app: App, log: Notebook) -> None:
    raw = signed_event(TESTED).replace("key-1", "key-2")
    take_event(app, handlers(unexpected), [raw])
    ((item, _),) = kept(app)
    assert item.reason == "bad_signature"


def test_what_a_handler_refuses_is_set_aside_and_upstream_is_told(app: App, log: Notebook) -> None:
    act, _ = raising(EventRefused("key_id_taken", "The key id belongs to another account."))
    take_event(app, handlers(act), [signed_event(TESTED)])
    ((item, payload),) = kept(app)
    assert item == SetAside(
        id=item.id,
        at=app.effects.now_ms(),
        queue="keys",
        reason="key_id_taken",
        sentence="The key id belongs to another account.",
        event_id="evt-1",
        event_type="byok.key.tested.v1",
        account_id="acme",
    )
    assert payload.decode() == signed_event(TESTED)
    assert rejections(app) == [{"event_id": "evt-1", "reason": "key_id_taken"}]


def test_a_redelivered_message_is_set_aside_and_told_once(app: App, log: Notebook) -> None:
    act, _ = raising(*(EventRefused("key_id_taken", "No.") for _ in range(3)))
    for _ in range(3):
        take_event(app, handlers(act), [signed_event(TESTED)])
    assert len(kept(app)) == 1
    assert len(rejections(app)) == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        KeyError(SECRET),
        RuntimeError(SECRET),
        AssertionError(SECRET),
        RecursionError(SECRET),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
        IntegrityError(SECRET, {"key": SECRET}, Exception(SECRET)),
        OverflowError(SECRET),
    ],
)
def test_an_error_nobody_expected_is_an_internal_error_without_its_text(
    app: App, log: Notebook, error: Exception
) -> None:
    act, _ = raising(error)
    take_event(app, handlers(act), [signed_event(TESTED)])
    ((item, _),) = kept(app)
    assert item.reason == "internal_error"
    assert type(error).__name__ in item.sentence
    assert "hunter2" not in item.sentence
    assert "hunter2" not in log.text
    assert type(error).__name__ in log.text
    assert rejections(app) == [{"event_id": "evt-1", "reason": "internal_error"}]
    assert clockwork_of(app).waits == []


def test_a_readable_key_is_not_kept_with_what_is_set_aside(app: App, log: Notebook) -> None:
    take_event(app, handlers(unexpected), [signed_event(KeyTested(key_id=SECRET))])
    ((item, payload),) = kept(app)
    assert item.reason == "readable_key"
    assert b"hunter2" not in payload
    assert "hunter2" not in item.sentence
    assert "hunter2" not in log.text


def test_a_message_that_only_says_so_takes_no_waiting_event_away(app: App, log: Notebook) -> None:
    sent = signed_event(TESTED)
    with app.database.write() as connection:
        waiting.put(
            connection,
            waiting.WaitingEvent(
                event_id="evt-1",
                account_id="acme",
                queue="keys",
                envelope=sent,
                until_at=app.effects.now_ms() + 60_000,
            ),
        )
    for raw in (
        sent.replace("key-1", "key-2"),
        '{"id": "evt-1"}',
        '{"id": "evt-1", "x": "\ud800"}',
    ):
        take_event(app, handlers(unexpected), [raw])
    with app.database.read() as connection:
        assert waiting.until(connection, "evt-1") is not None
    act, _ = raising(EventRefused("unknown_account", "It did not become known."))
    take_event(app, handlers(act), [sent])
    with app.database.read() as connection:
        assert waiting.until(connection, "evt-1") is None
    assert len(kept(app)) == 4


# Waiting


def test_while_the_database_is_away_a_message_waits_and_is_then_acted_on(
    app: App, log: Notebook
) -> None:
    act, taken = raising(*(away() for _ in range(9)))
    take_event(app, handlers(act), [signed_event(TESTED)])
    assert taken == ["evt-1"]
    assert clockwork_of(app).waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert kept(app) == []


def test_while_the_lease_is_lost_a_message_waits_and_is_then_acted_on(
    app: App, log: Notebook
) -> None:
    act, taken = raising(LeaseLost(), LeaseLost())
    take_event(app, handlers(act), [signed_event(TESTED)])
    assert taken == ["evt-1"]
    assert len(clockwork_of(app).waits) == 2


def test_a_stopping_worker_leaves_a_waiting_message_with_the_broker(
    app: App, log: Notebook
) -> None:
    act, taken = raising(away(), away())
    clockwork_of(app).on_wait = lambda _seconds: True
    with pytest.raises(Stopping):
        take_event(app, handlers(act), [signed_event(TESTED)])
    assert taken == []
    assert kept(app) == []


def test_what_is_refused_while_the_database_is_away_is_set_aside_when_it_is_back(
    app: App, log: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = setaside.put
    outages = [away(), away()]

    def put(*arguments: Any) -> bool:
        if outages:
            raise outages.pop()
        return real(*arguments)

    monkeypatch.setattr("store.setaside.put", put)
    take_event(app, handlers(unexpected), ["hello"])
    assert [item.reason for item, _ in kept(app)] == ["not_json"]
    assert clockwork_of(app).waits == [0.1, 0.2]


def test_a_message_that_cannot_even_be_set_aside_is_not_let_go(app: App, log: Notebook) -> None:
    right = app.vault
    take_event(app, handlers(unexpected), ["first"])
    # Master keys that do not fit what is stored.
    app.__dict__["vault"] = Vault(LocalKeyRing({"m9": bytes([9]) * 32}), app.effects.random_bytes)

    def mend(seconds: float) -> bool:
        assert seconds == LONGEST_PAUSE
        app.__dict__["vault"] = right
        return False

    clockwork_of(app).on_wait = mend
    take_event(app, handlers(unexpected), ["second"])
    assert {payload for _, payload in kept(app)} == {b"first", b"second"}


# Messages that only say "look at this"


def test_an_inside_message_is_acted_on_with_its_arguments(app: App, log: Notebook) -> None:
    seen: list[tuple[str, ...]] = []
    take(app, "analyses", "resume", ["acme", "req-1"], lambda _app, *ids: seen.append(ids))
    assert seen == [("acme", "req-1")]


@pytest.mark.parametrize("arguments", [[1], ["acme", None], [{"a": 1}]])
def test_an_inside_message_with_other_arguments_is_logged_and_dropped(
    app: App, log: Notebook, arguments: list[Any]
) -> None:
    take(app, "analyses", "resume", arguments, unexpected)
    assert "not_a_message" in log.text
    assert kept(app) == []


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "c"]])
def test_an_inside_message_with_too_few_or_many_ids_is_logged_and_dropped(
    app: App, log: Notebook, arguments: list[str]
) -> None:
    def resume(app: App, account: str, request_id: str) -> None:
        raise AssertionError("it must not be acted on")

    take(app, "analyses", "resume", arguments, resume)
    assert "internal_error" in log.text


def test_an_inside_message_that_fails_is_logged_without_the_errors_text(
    app: App, log: Notebook
) -> None:
    def fail(_app: App) -> None:
        raise ValueError(SECRET)

    take(app, "validations", "validate", [], fail)
    assert "internal_error" in log.text
    assert "hunter2" not in log.text
    assert kept(app) == []


def test_an_inside_message_waits_for_the_database_too(app: App, log: Notebook) -> None:
    errors = [away(), away()]

    def act(_app: App) -> None:
        if errors:
            raise errors.pop()

    take(app, "validations", "validate", [], act)
    assert clockwork_of(app).waits == [0.1, 0.2]


def test_stopping_goes_through(app: App, log: Notebook) -> None:
    def stop() -> None:
        raise Stopping

    with pytest.raises(Stopping):
        patiently(app, stop)


# What cannot be had again


class Ledger:
    """Something that must be written down, in a database that is away for a while."""

    def __init__(self, *errors: Exception) -> None:
        self._errors: Iterator[Exception] = iter(errors)
        self.written = 0

    def write(self) -> None:
        for error in self._errors:
            raise error
        self.written += 1


def test_what_was_paid_for_is_written_down_though_the_worker_stops(app: App, log: Notebook) -> None:
    app.stopping.set()
    ledger = Ledger(away(), away(), away())
    persistently(app, ledger.write)
    assert ledger.written == 1
    assert clockwork_of(app).waits == [0.1, 0.2, 0.4]


def test_a_worker_that_runs_tries_for_as_long_as_it_takes(app: App, log: Notebook) -> None:
    clock = clockwork_of(app)

    def wait(_seconds: float) -> bool:
        clock.pass_time(3_600)
        return False

    clock.on_wait = wait
    ledger = Ledger(*(away() for _ in range(50)))
    persistently(app, ledger.write)
    assert ledger.written == 1


def test_a_stopping_worker_gives_up_when_its_time_is_over(app: App, log: Notebook) -> None:
    app.stopping.set()
    clock = clockwork_of(app)

    def wait(seconds: float) -> bool:
        clock.pass_time(seconds)
        return False

    clock.on_wait = wait
    started = clock.monotonic()
    ledger = Ledger(*(away() for _ in range(1_000)))
    with pytest.raises(Stopping):
        persistently(app, ledger.write)
    assert ledger.written == 0
    assert DRAIN_SECONDS <= clock.monotonic() - started <= DRAIN_SECONDS + LONGEST_PAUSE


def test_what_no_waiting_mends_is_told_and_not_tried_again(app: App, log: Notebook) -> None:
    ledger = Ledger(ValueError(SECRET))
    with pytest.raises(EventRefused) as caught:
        persistently(app, ledger.write)
    assert caught.value.reason == "internal_error"
    assert "hunter2" not in caught.value.sentence
    assert ledger.written == 0


def test_messages_at_once_do_not_hinder_each_other(app: App, log: Notebook) -> None:
    together = threading.Barrier(6, timeout=30)
    act, taken = raising()

    def one(number: int) -> None:
        together.wait()
        take_event(app, handlers(act), [signed_event(TESTED, event_id=f"evt-{number}")])
        take_event(app, handlers(act), [f"nonsense {number}"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == [f"evt-{number}" for number in range(6)]
    assert len(kept(app)) == 6
