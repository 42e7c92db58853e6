"""Every operation from end to end: what is sent, what comes back, what is reused and kept."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from deploy.local.sandbox import SandboxServer
from events import (
    AccountDeleted,
    EventRefused,
    MailInput,
    Operation,
    ProviderChoice,
    SealingKeys,
    ThreadInput,
    ThreadMessage,
)
from events.sealing import text_info
from store import analyses
from store.schema import metadata
from tests.conftest import Services
from tests.leaks import Secret, search
from tests.road import GOOD_ANTHROPIC, MAIL, Road, fake_key, make_settings
from workers.analyses import texts

SUBSCRIBER = SealingKeys.parse(fake_key(4))

THREAD = ThreadInput(
    own_address="bob@example.org",
    messages=(
        ThreadMessage(sender="bob@example.org", to="ann@example.org", date="Mon", text="Lunch?"),
        ThreadMessage(
            sender="Ann <ann@example.org>",
            to="bob@example.org",
            date="Tue",
            text="Gladly. Could you book a table, please? Let me know.",
        ),
    ),
)

TEXTS = {Operation.SUMMARIZE: "summary", Operation.REPLY: "reply"}


@pytest.fixture
def road(services: Services, sandbox: SandboxServer, tmp_path: Path) -> Iterator[Road]:
    """The whole system, with a subscriber that free text is sealed to."""
    settings = make_settings(
        tmp_path,
        broker=services.broker,
        database=services.database,
        sandbox=sandbox,
        redis_url=services.redis,
        subscriber_public_key=str(SUBSCRIBER.current),
    )
    running = Road(settings, sandbox)
    running.start()
    yield running
    running.stop()


def given_to(operation: Operation) -> MailInput | ThreadInput:
    return THREAD if operation is Operation.THREAD_STATE else MAIL


def text_of(road: Road, request_id: str) -> dict[str, str]:
    """A result's free text, decrypted out of the store."""
    with road.app.database.read() as connection:
        stored = analyses.result_texts(connection, "acme", [request_id])
        return texts.opened(road.app, connection, "acme", request_id, stored[request_id])


def completed(road: Road, request_id: str) -> dict[str, Any]:
    """The data of a request's one `analysis.completed`."""
    (data,) = (
        event["data"]
        for event in road.out_events("analysis.completed")
        if event["data"]["request_id"] == request_id
    )
    return dict(data)


def sent(road: Road) -> list[dict[str, Any]]:
    """The completions that the providers received, oldest first."""
    return [entry for entry in road.sandbox.record() if entry["endpoint"] == "completion"]


def test_each_operation_is_run_by_each_provider_and_accounted_for(road: Road) -> None:
    road.account()
    road.give_key()
    road.give_key(GOOD_ANTHROPIC)
    asked = {
        (operation, choice): road.ask(
            mail=given_to(operation), operation=operation, provider=choice
        )
        for operation in Operation
        for choice in (ProviderChoice.OPENAI, ProviderChoice.ANTHROPIC)
    }
    for (operation, choice), request_id in asked.items():
        request = road.ended(request_id)
        assert (request.state, request.answered_by) == ("completed", "model"), request.reason
        assert (request.credential, request.provider) == ("byok", choice.value)
        assert request.prompt_version == f"{operation.value}-1"
        assert request.result is not None
        if operation in TEXTS:
            assert request.result == {}
            assert list(text_of(road, request_id)) == [TEXTS[operation]]
        else:
            assert 0 <= request.result["confidence"] <= 1
    state = road.request(asked[Operation.THREAD_STATE, ProviderChoice.OPENAI])
    assert state is not None
    assert state.result is not None
    assert (state.result["state"], state.result["priority"]) == ("needs_action", "normal")
    rows = road.settled_ledger()
    assert sorted(row.operation for row in rows) == sorted([*Operation] * 2)
    assert all(row.kind == "call" and row.completes and row.cost_nano_usd > 0 for row in rows)


def test_nothing_is_sent_but_what_the_product_names(road: Road) -> None:
    road.account()
    hidden = {name: secrets.token_hex(8) for name in ("date", "header", "link", "style")}
    shown = {name: secrets.token_hex(8) for name in ("subject", "from", "to", "cc", "text")}
    html = f"<p style='x:{hidden['style']}'><a href='https://{hidden['link']}'>{shown['text']}</a>"
    mail = MailInput.model_validate(
        {
            **{name: shown[name] for name in ("subject", "from", "to", "cc")},
            "date": hidden["date"],
            "html": html,
            "headers": {"List-Id": hidden["header"], "Return-Path": hidden["header"]},
        }
    )
    asked = [road.ask(mail=mail, operation=one) for one in (Operation.CLASSIFY, *TEXTS)]
    thread = road.ask(mail=THREAD, operation=Operation.THREAD_STATE)
    for request_id in (*asked, thread):
        assert road.ended(request_id).state == "completed"

    received = sent(road)
    assert len(received) == 4
    for entry in received:
        lines = entry["user"].split("\n")
        assert (len(lines), lines[1][0], lines[3][:2]) == (4, "<", "</")
        told = json.loads(lines[2])
        if lines[1] == "<thread>":
            assert told["own_address"] == THREAD.own_address
            assert [set(one) for one in told["messages"]] == [
                {"from", "to", "cc", "date", "text"}
            ] * 2
        else:
            assert told == shown
        assert "acme" not in json.dumps(entry["body"])
        for value in hidden.values():
            assert value not in json.dumps(entry)


def test_an_identical_request_is_answered_by_reuse_without_a_call_or_a_credit(road: Road) -> None:
    road.account(credits=4)
    for operation in Operation:
        given = given_to(operation)
        first = road.ended(road.ask(mail=given, operation=operation))
        again = given
        if isinstance(given, MailInput):
            # White space, the date and the rule headers are not what is asked about.
            changed = {"subject": f" {given.subject} ", "date": "now", "text": f"{given.text}\n\n"}
            again = given.model_copy(update=changed)
        second = road.ended(road.ask(mail=again, operation=operation))
        assert (first.answered_by, second.answered_by) == ("model", "reuse")
        assert (second.state, second.credential, second.attempt) == ("completed", "none", 0)
        assert (second.result, second.prompt_version) == (first.result, first.prompt_version)
        told = completed(road, second.request_id)["provenance"]
        assert (told["by"], told["reused_from"]) == ("reuse", first.request_id)
        if operation in TEXTS:
            assert text_of(road, second.request_id) == text_of(road, first.request_id)
    assert len(sent(road)) == 4
    assert road.credits() == (4, 0)
    reused = [row for row in road.settled_ledger() if row.kind == "none"]
    assert len(reused) == 4
    assert {(r.cost_nano_usd, r.credential, r.provider, r.completes) for r in reused} == {
        (0, "none", "none", True)
    }


def test_what_differs_is_asked_anew(road: Road) -> None:
    road.account()
    road.account("other")
    road.ended(road.ask(mail=MAIL))
    road.ended(road.ask("other", mail=MAIL), "other")
    asked = [
        road.ask(mail=MAIL.model_copy(update={"text": f"{MAIL.text}!"})),
        road.ask(mail=MAIL.model_copy(update={"cc": "eve@example.org"})),
        road.ask(mail=MAIL, operation=Operation.SUMMARIZE),
        road.ask(mail=MAIL, model="gpt-5.4-nano"),
        road.ask(mail=MAIL, provider=ProviderChoice.ANTHROPIC),
    ]
    assert {road.ended(request_id).answered_by for request_id in asked} == {"model"}
    # Other categories are another question, but not to an operation that has none.
    road.account(category_overrides=[{"type": "category", "key": "social", "enabled": False}])
    assert road.ended(road.ask(mail=MAIL)).answered_by == "model"
    summary = road.ask(mail=MAIL, operation=Operation.SUMMARIZE)
    assert road.ended(summary).answered_by == "reuse"


def test_without_consent_nothing_is_reused_and_after_a_deletion_there_is_nothing(
    road: Road,
) -> None:
    road.account()
    first = road.ask(mail=MAIL, operation=Operation.SUMMARIZE)
    road.ended(first)
    road.account(consent=False)
    skipped = road.ended(road.ask(mail=MAIL, operation=Operation.SUMMARIZE))
    assert (skipped.state, skipped.reason) == ("skipped", "consent")

    road.publish(AccountDeleted(revision=road.revision()), "acme")
    road.until(lambda: (r := road.request(first)) is not None and r.result is None)
    with road.app.database.read() as connection:
        assert analyses.result_texts(connection, "acme", [first]) == {}
    road.account()
    anew = road.ended(road.ask(mail=MAIL, operation=Operation.SUMMARIZE))
    assert (anew.state, anew.answered_by) == ("completed", "model")


def test_the_text_of_a_mail_and_of_a_result_lies_readable_nowhere(road: Road) -> None:
    road.account()
    canary = Secret("a word of the mail", secrets.token_hex(16))
    mail = MailInput(subject=canary.private, sender="Ann", text=f"Dear Bob, {canary.private}")
    asked = [road.ask(mail=mail, operation=operation) for operation in TEXTS]
    asked.append(road.ask(mail=mail, operation=Operation.SUMMARIZE))  # perhaps by reuse
    for request_id in asked:
        assert road.ended(request_id).state == "completed"
        # It is in the text, so that the search below has something to find.
        assert canary.private in json.dumps(text_of(road, request_id))
    road.settled_ledger()
    sealed = {one: completed(road, one)["sealed_text"] for one in asked}
    road.stop_working()
    hits = search(_lying(road), [canary])
    assert not hits, hits

    for request_id, value in sealed.items():
        opened = json.loads(SUBSCRIBER.open(value, text_info("acme", request_id)))
        assert opened == text_of(road, request_id)
        for account, other in (("acme", "another"), ("other", request_id)):
            with pytest.raises(EventRefused):
                SUBSCRIBER.open(value, text_info(account, other))
        with pytest.raises(EventRefused):
            road.settings.sealing_key_ring.open(value, text_info("acme", request_id))


def _lying(road: Road) -> dict[str, bytes]:
    """All that lies in the database, row by row and as files, and on the stream."""
    found = {
        path.name: path.read_bytes() for path in road.settings.state_dir.iterdir() if path.is_file()
    }
    with road.app.database.read() as connection:
        for table in metadata.tables.values():
            rows = [tuple(row) for row in connection.execute(select(table))]
            raw = b"\0".join(
                value if isinstance(value, bytes) else str(value).encode()
                for row in rows
                for value in row
            )
            found[f"table {table.name}"] = raw
    found["stream"] = b"\0".join(
        value
        for _, fields in road.app.stream.xrange("byok:events")
        for pair in fields.items()
        for value in pair
    )
    assert all(found[name] for name in ("table analyses", "table attempts", "stream"))
    return found


@pytest.mark.parametrize("operation", [Operation.SUMMARIZE, Operation.THREAD_STATE])
def test_an_answer_off_the_schema_is_asked_for_once_more_and_then_fails(
    road: Road, operation: Operation
) -> None:
    road.account(credits=5)
    road.sandbox.fault("offschema", endpoint="completion", count=1)
    mended = road.ended(road.ask(mail=given_to(operation), operation=operation))
    assert (mended.state, mended.attempt) == ("completed", 2)
    road.sandbox.fault("offschema", endpoint="completion", count=2)
    given = THREAD.model_copy(update={"own_address": "eve@example.org"})
    other = given if operation is Operation.THREAD_STATE else MailInput(text="something else")
    failed = road.ended(road.ask(mail=other, operation=operation))
    assert (failed.state, failed.reason, failed.attempt) == ("failed", "bad_answer", 2)
    assert (failed.result, road.credits()) == (None, (1, 0))


def test_an_input_of_another_operation_is_refused(road: Road) -> None:
    road.account()
    for operation, given in ((Operation.THREAD_STATE, MAIL), (Operation.REPLY, THREAD)):
        road.ask(mail=given, operation=operation)
    road.until(lambda: len(road.out_events("event.rejected")) == 2)
    assert {e["data"]["reason"] for e in road.out_events("event.rejected")} == {"invalid_input"}
    assert sent(road) == []
