"""When no provider is asked: routine machine mail by rules, what is identical by reuse."""

import pytest

from events import MailInput, Operation
from store.ledger import NONE
from tests.road import MAIL, Road

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

NEWSLETTER = MAIL.model_copy(
    update={
        "sender": "newsletter@example.org",
        "headers": {"List-Id": "<news.example.org>", "Precedence": "bulk"},
    }
)
BOUNCE = MAIL.model_copy(update={"headers": {"Content-Type": "multipart/report; x=y"}})
VACATION = MAIL.model_copy(update={"headers": {"Auto-Submitted": "auto-replied"}})
OWN = {"type": "category", "key": "mine", "display_name": "Mine"}


def calls(road: Road) -> int:
    return sum(entry["endpoint"] == "completion" for entry in road.sandbox.record())


def answered_by(road: Road, mail: MailInput) -> str | None:
    request = road.ended(road.ask(mail=mail))
    assert request.state == "completed"
    return request.answered_by


def test_machine_mail_is_answered_by_rules_with_no_call_and_no_credit(road: Road) -> None:
    road.account(credits=0)
    for mail, category in (
        (NEWSLETTER, "newsletter"),
        (BOUNCE, "system"),
        (VACATION, "notification"),
    ):
        request = road.ended(road.ask(mail=mail))
        assert (request.state, request.answered_by) == ("completed", "rules")
        assert (request.credential, request.attempt) == ("none", 0)
        assert request.result is not None
        assert (request.result["category"], request.result["is_automated"]) == (category, True)
    assert calls(road) == 0
    assert road.credits() == (0, 0)
    rows = road.settled_ledger()
    assert [(row.kind, row.cost_nano_usd, row.completes) for row in rows] == [(NONE, 0, True)] * 3


def test_rules_answer_nothing_of_accounts_without_consent(road: Road) -> None:
    road.account(consent=False)
    request = road.ended(road.ask(mail=NEWSLETTER))
    assert (request.state, request.reason, request.result) == ("skipped", "consent", None)


def test_where_the_account_has_its_own_words_the_model_judges(road: Road) -> None:
    """A rule knows the built-in categories as they are built in."""
    for overrides, asked in (
        ([{"type": "category", "key": "newsletter", "enabled": False}], "model"),
        ([{"type": "category", "key": "newsletter", "description": "only of ours"}], "model"),
        ([{"type": "urgency", "key": "low", "enabled": False}], "model"),
        ([{"type": "category", "key": "work", "description": "of the office"}], "rules"),
    ):
        road.account(category_overrides=overrides)
        assert answered_by(road, NEWSLETTER) == asked, overrides
    road.account(custom_categories=[OWN])
    assert answered_by(road, NEWSLETTER) == "model"
    assert answered_by(road, VACATION) == "model"
    assert answered_by(road, BOUNCE) == "rules"
    # Those that the plan leaves out, or that are switched off, change nothing.
    road.account(custom_categories=[{**OWN, "enabled": False}])
    assert answered_by(road, NEWSLETTER) == "rules"
    road.account(plan="starter", custom_categories=[OWN])
    assert answered_by(road, NEWSLETTER) == "rules"


def test_what_a_rule_says_is_said_of_classification_alone(road: Road) -> None:
    road.account()
    request = road.ended(road.ask(mail=NEWSLETTER, operation=Operation.SUMMARIZE))
    assert request.answered_by == "model"
    again = road.ended(road.ask(mail=NEWSLETTER, operation=Operation.SUMMARIZE))
    assert again.answered_by == "reuse"
    assert calls(road) == 1
