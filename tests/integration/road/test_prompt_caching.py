"""Prompt caching: the stable part first and marked, and what was read from it on the books."""

import json
from typing import Any

import pytest

from events import MailInput, Operation, ProviderChoice
from store import accounts, usage
from store.ledger import cached_share
from tests.road import Road

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)


def sent(road: Road) -> list[dict[str, Any]]:
    """The bodies of the completions, oldest first."""
    return [entry["body"] for entry in road.sandbox.record() if entry["endpoint"] == "completion"]


def ask_twice(road: Road, provider: ProviderChoice) -> list[dict[str, Any]]:
    """Two mails one after the other; the usage of each result."""
    found = []
    for number in range(2):
        mail = MailInput(subject=f"Number {number}", text=f"This is mail {number}.")
        request = road.ended(road.ask(mail=mail, provider=provider))
        assert request.usage is not None
        found.append(dict(request.usage))
    return found


@pytest.mark.parametrize("provider", [ProviderChoice.OPENAI, ProviderChoice.ANTHROPIC])
def test_a_repeated_prefix_is_read_from_the_cache_and_is_on_every_book(
    road: Road, provider: ProviderChoice
) -> None:
    road.account()
    first, second = ask_twice(road, provider)
    assert (first["cached_read_tokens"], first["cached_share"]) == (0, 0)
    assert 1_000 < second["cached_read_tokens"] < second["input_tokens"]
    assert second["cached_share"] == pytest.approx(
        second["cached_read_tokens"] / second["input_tokens"]
    )
    if provider is ProviderChoice.ANTHROPIC:
        assert first["cache_write_tokens"] == second["cached_read_tokens"]
    assert second["cost_nano_usd"] < first["cost_nano_usd"]

    rows = road.settled_ledger()
    assert [row.cached_read_tokens for row in rows] == [0, second["cached_read_tokens"]]
    assert [row.cost_nano_usd for row in rows] == [first["cost_nano_usd"], second["cost_nano_usd"]]
    assert cached_share(rows[1].cached_read_tokens, rows[1].input_tokens) == second["cached_share"]
    (line,) = road.sandbox.bill()
    assert line["cached_read_tokens"] == second["cached_read_tokens"]
    with road.app.database.read() as connection:
        surrogate = accounts.find_surrogate(connection, "acme")
        card = usage.card(connection, surrogate, rows[0].local_date, 7)
    assert card.total.cached_share == pytest.approx(
        second["cached_read_tokens"] / (first["input_tokens"] + second["input_tokens"])
    )


def test_the_stable_part_comes_first_and_is_marked(road: Road) -> None:
    road.account()
    ask_twice(road, ProviderChoice.ANTHROPIC)
    for body in sent(road):
        (system,) = body["system"]
        assert system["cache_control"] == {"type": "ephemeral"}
        assert "Number" not in json.dumps(body["system"])
        assert "cache_control" not in json.dumps(body["messages"])
    ask_twice(road, ProviderChoice.OPENAI)
    summary = MailInput(text="Another operation")
    road.ended(
        road.ask(mail=summary, operation=Operation.SUMMARIZE, provider=ProviderChoice.OPENAI)
    )
    *classified, summarised = sent(road)[2:]
    for body in classified:
        assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
        assert body["messages"][0] == classified[0]["messages"][0]
    keys = {body["prompt_cache_key"] for body in classified}
    assert len(keys) == 1
    assert summarised["prompt_cache_key"] not in keys
    assert keys.isdisjoint({"acme"})
