"""Categories of the account's own: they travel with it, count by its plan, and reach the model."""

from typing import Any

import pytest

from events import MailInput
from tests.road import Road

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

OWN: list[dict[str, Any]] = [
    {
        "type": kind,
        "key": f"{kind}_of_mine",
        "display_name": f"A {kind} of mine",
        "definition_prompt": f"How my {kind} is told",
        "keywords": ["okapi"],
        "confidence_threshold": 50,
        "priority": 90,
    }
    for kind in ("category", "urgency", "sentiment")
]
EDITED = [{"type": "category", "key": "work", "definition_prompt": "Anything about okapis"}]
MAIL = MailInput(subject="Category of mine", sender="Ann", text="About an okapi of mine.")


def told(road: Road) -> str:
    """The instructions that were sent last."""
    return str(road.sandbox.record(1)[0]["system"])


def test_own_categories_of_all_types_count_with_a_plan_that_has_them(road: Road) -> None:
    road.account(plan="pro", custom_categories=OWN, category_overrides=EDITED)
    request = road.ended(road.ask(mail=MAIL))
    assert request.result is not None
    assert request.result["category"] == "category_of_mine"
    for one in OWN:
        assert f'"key":"{one["key"]}"' in told(road)
        assert one["definition_prompt"] in told(road)
    assert "Anything about okapis" in told(road)


def test_a_plan_without_them_leaves_them_out_until_it_changes(road: Road) -> None:
    road.account(plan="starter", custom_categories=OWN, category_overrides=EDITED)
    request = road.ended(road.ask(mail=MAIL))
    assert request.result is not None
    assert request.result["category"] != "category_of_mine"
    assert "of_mine" not in told(road)
    assert "Anything about okapis" in told(road), "a built-in can be edited with any plan"

    road.account(plan="business", custom_categories=OWN, category_overrides=EDITED)
    request = road.ended(road.ask(mail=MAIL))
    # Another vocabulary is another question: the earlier answer is not reused for it.
    assert (request.answered_by, (request.result or {})["category"]) == (
        "model",
        "category_of_mine",
    )


def test_a_plan_that_has_ended_has_none(road: Road) -> None:
    road.account(plan="pro", plan_status="canceled", custom_categories=OWN)
    assert road.ended(road.ask(mail=MAIL)).state == "completed"
    assert "of_mine" not in told(road)
