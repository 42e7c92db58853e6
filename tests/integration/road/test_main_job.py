"""The main job from end to end: keys, analyses, the usage card."""

from events import KeyTested, ProviderChoice
from tests.road import GOOD_ANTHROPIC, MAIL, Road


def test_an_own_key_turns_valid_and_pays_for_an_analysis(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    key = road.key(key_id)
    assert key is not None
    assert (key.status, key.reason, key.last4) == ("valid", "ok", "0001")

    request = road.ended(road.ask())
    assert (request.state, request.credential, request.key_id) == ("completed", "byok", key_id)
    assert request.result is not None
    assert request.result["category"] == "personal"

    (row,) = road.settled_ledger()
    assert (row.kind, row.completes, row.credential, row.key_id) == ("call", True, "byok", key_id)
    (billed,) = road.sandbox.bill()
    assert (row.input_tokens, row.output_tokens) == (
        billed["input_tokens"],
        billed["output_tokens"],
    )
    assert row.cost_nano_usd > 0
    counted = road.key(key_id)
    assert counted is not None
    assert counted.requests == 1


def test_each_change_of_a_key_is_announced_once(road: Road) -> None:
    road.account()
    key_id = road.give_key()
    road.publish(KeyTested(key_id=key_id), "acme")
    road.until(lambda: (k := road.key(key_id)) is not None and k.validation_no >= 3)
    road.remove_key(key_id)
    moves = [
        (e["data"].get("old"), e["data"]["new"]) for e in road.out_events("key.status_changed")
    ]
    assert moves == [(None, "pending"), ("pending", "valid"), ("valid", "removed")]


def test_without_a_key_the_platform_pays_with_credits(road: Road) -> None:
    road.account(credits=1)
    first = road.ended(road.ask())
    assert (first.state, first.credential) == ("completed", "platform")
    second = road.ended(road.ask())
    assert (second.state, second.reason) == ("skipped", "credits")
    assert len(road.out_events("credits.exhausted")) == 1


def test_a_key_that_the_provider_refuses_is_invalid_and_its_requests_fail(road: Road) -> None:
    road.account()
    key_id = road.give_key("sk-proj-sandbox-invalid-not-a-real-key-0000")
    key = road.key(key_id)
    assert key is not None
    assert (key.status, key.reason) == ("invalid", "rejected")
    request = road.ended(road.ask(provider=ProviderChoice.OPENAI))
    assert (request.state, request.reason) == ("failed", "key_invalid")
    assert road.sandbox.bill() == []


def test_a_request_waits_for_the_verdict_on_a_pending_key(road: Road) -> None:
    road.account()
    road.sandbox.fault("error503", provider="openai", endpoint="models")
    key_id = road.give_key(settled=False)
    road.until(lambda: road.key(key_id))
    request_id = road.ask()
    road.until(lambda: (r := road.request(request_id)) is not None and r.reason == "key_pending")
    road.sandbox.clear_faults()
    request = road.ended(request_id)
    assert (request.state, request.key_id) == ("completed", key_id)


def test_consent_off_sends_nothing(road: Road) -> None:
    road.account(consent=False)
    road.give_key()
    request = road.ended(road.ask())
    assert (request.state, request.reason) == ("skipped", "consent")
    assert road.sandbox.bill() == []


def test_machine_mail_is_answered_by_rules_and_costs_nothing(road: Road) -> None:
    road.account(credits=0)
    mail = MAIL.model_copy(update={"headers": {"Auto-Submitted": "auto-replied"}})
    request = road.ended(road.ask(mail=mail))
    assert (request.state, request.answered_by, request.credential) == (
        "completed",
        "rules",
        "none",
    )
    (row,) = road.settled_ledger()
    assert (row.kind, row.cost_nano_usd, row.credential) == ("none", 0, "none")


def test_the_same_request_twice_is_run_once(road: Road) -> None:
    road.account()
    request_id = road.ask(request_id="same")
    road.ask(request_id="same")
    road.ended(request_id)
    road.ask(request_id="same")
    road.ended(road.ask())
    assert len(road.settled_ledger()) == 2


def test_a_request_id_with_other_content_is_refused(road: Road) -> None:
    road.account()
    road.ended(road.ask(request_id="same"))
    road.ask(request_id="same", mail=MAIL.model_copy(update={"text": "something else"}))
    road.until(lambda: road.out_events("event.rejected"))
    (event,) = road.out_events("event.rejected")
    assert event["data"]["reason"] == "id_conflict"


def test_both_providers_are_called_where_asked(road: Road) -> None:
    road.account()
    road.give_key()
    road.give_key(GOOD_ANTHROPIC)
    asked = {
        choice: road.ask(provider=choice)
        for choice in (ProviderChoice.OPENAI, ProviderChoice.ANTHROPIC)
    }
    for choice, request_id in asked.items():
        request = road.ended(request_id)
        assert (request.state, request.provider) == ("completed", choice.value)
