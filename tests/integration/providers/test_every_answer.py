"""Each row of "What an answer means", through the real SDKs over HTTP, in `ask` and in `probe`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, SecretStr

from deploy.local.sandbox import SandboxServer
from events.keys import KeyStatus, Provider
from workers.providers import (
    Answer,
    Failure,
    OutcomeClass,
    Proof,
    ProviderClient,
    Question,
    Undecided,
    judge_outcome,
)

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
MODELS = {OPENAI: "gpt-5.4-mini", ANTHROPIC: "claude-haiku-4-5"}
SHORT = 0.4  # seconds that a call which hangs on purpose is given

Connect = Callable[..., ProviderClient]
KeyWith = Callable[[Provider, str], SecretStr]


class Signals(BaseModel):
    """What is asked for."""

    category: str
    urgent: bool


@dataclass(frozen=True)
class Row:
    """One row: a fault, and what it must come to.

    `stage1` says that the free list of models meets the fault as well. `status` and `reason` are
    what a Pending key becomes.
    """

    provider: Provider
    fault: str
    kind: str
    code: str
    status: KeyStatus = KeyStatus.PENDING
    reason: str = "new"
    http: int | None = None
    stage1: bool = True
    billed: bool = False

    def __str__(self) -> str:
        return f"{self.provider}-{self.fault}"


PENDING, VALID, INVALID = KeyStatus.PENDING, KeyStatus.VALID, KeyStatus.INVALID


def both(fault: str, kind: str, code: str, **rest: object) -> list[Row]:
    return [Row(provider, fault, kind, code, **rest) for provider in Provider]  # type: ignore[arg-type]


ROWS = [
    *both("invalid", "rejected", "invalid_api_key", status=INVALID, reason="rejected", http=401),
    *both("revoked", "rejected", "invalid_api_key", status=INVALID, reason="rejected", http=401),
    *both(
        *("deactivated", "rejected", "deactivated"),
        status=INVALID,
        reason="deactivated",
        http=401,
    ),
    *both(
        *("ip", "forbidden", "ip_not_allowed"),
        status=INVALID,
        reason="ip_not_allowed",
        http=401,
    ),
    *both("region", "forbidden", "region", status=INVALID, reason="region", http=403),
    *both("nomodel", "model_unavailable", "model_not_found", http=404, stage1=False),
    *both("ratelimited", "rate_limited", "rate_limit_exceeded", http=429),
    *(
        Row(provider, fault, "no_quota", code, VALID, "no_quota", http, stage1=False)
        for provider, fault, code, http in (
            (OPENAI, "noquota", "insufficient_quota", 429),
            (OPENAI, "billing", "credit_balance_exhausted", 429),
            (OPENAI, "spendlimit", "organization_spend_limit_exceeded", 429),
            (ANTHROPIC, "noquota", "credit_balance_exhausted", 400),
            (ANTHROPIC, "billing", "billing_error", 402),
            (ANTHROPIC, "spendlimit", "enforced_spend_limit_reached", 429),
        )
    ),
    *both("error500", "unavailable", "server_error", http=500),
    *both("error502", "unavailable", "server_error", http=502),
    *both("error503", "unavailable", "overloaded", http=503),
    *both("error504", "unavailable", "timeout", http=504),
    Row(OPENAI, "overloaded", "unavailable", "overloaded", http=503),
    Row(ANTHROPIC, "overloaded", "unavailable", "overloaded", http=529),
    *both("hang", "unavailable", "timeout"),
    *both("reset", "unavailable", "connection_lost"),
    *both("malformed", "unavailable", "malformed", http=200),
    *both("html", "unavailable", "server_error", http=502),
]

ASKED_ONLY = [
    *both("toolong", "bad_request", "context_length_exceeded", http=400),
    *both("offschema", "bad_answer", "off_schema", http=200, billed=True),
    *both("refusal", "bad_answer", "refusal", http=200, billed=True),
    *both("length", "bad_answer", "length", http=200, billed=True),
    *both("empty", "bad_answer", "empty", http=200, billed=True),
    *both("bill-then-drop", "unavailable", "connection_lost"),
]


def ask(connect: Connect, provider: Provider, key: SecretStr, timeout: float) -> Answer | Failure:
    async def run() -> Answer | Failure:
        client = connect(provider)
        try:
            question = Question(
                model=MODELS[provider],
                system="You classify mail.",
                user="Subject: the quarterly numbers",
                schema=Signals,
                timeout=timeout,
            )
            return await client.ask(key, question)
        finally:
            await client.close()

    return asyncio.run(run())


def probe(
    connect: Connect,
    provider: Provider,
    key: SecretStr,
    *,
    prove_quota: bool = False,
    timeout: float = 10.0,
) -> Proof | Failure:
    async def run() -> Proof | Failure:
        client = connect(provider, probe_timeout=timeout)
        try:
            told = await client.probe(key, model=MODELS[provider], prove_quota=prove_quota)
            if isinstance(told, Undecided):
                return await client.spend(key, model=MODELS[provider])
            return told
        finally:
            await client.close()

    return asyncio.run(run())


def assert_row(row: Row, outcome: Answer | Proof | Failure) -> None:
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass(row.kind), row.code)
    assert outcome.status == row.http
    assert outcome.sent
    # The edge that refuses a region gives no id; see the sandbox.
    assert (outcome.request_id is not None) == (row.http is not None)
    assert (outcome.tokens is not None) == row.billed

    pending = judge_outcome(outcome, status=PENDING, reason="new")
    assert (pending.status, pending.reason) == (row.status, row.reason)
    valid = judge_outcome(outcome, status=VALID, reason="ok")
    unchanged = row.status is PENDING
    assert valid.status == (VALID if unchanged else row.status)
    assert valid.reason == ("ok" if unchanged else row.reason)


@pytest.mark.parametrize("row", [*ROWS, *ASKED_ONLY], ids=str)
def test_a_question_comes_to_what_the_table_says(
    row: Row, connect: Connect, key_with: KeyWith, sandbox: SandboxServer
) -> None:
    timeout = SHORT if row.fault == "hang" else 10.0
    outcome = ask(connect, row.provider, key_with(row.provider, row.fault), timeout)
    assert_row(row, outcome)
    assert [request["endpoint"] for request in sandbox.record()] == ["completion"]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_probe_comes_to_what_the_table_says(
    row: Row, connect: Connect, key_with: KeyWith
) -> None:
    key = key_with(row.provider, row.fault)
    timeout = SHORT if row.fault == "hang" else 10.0
    for prove_quota in (False, True):
        outcome = probe(connect, row.provider, key, prove_quota=prove_quota, timeout=timeout)
        if row.stage1 or prove_quota:
            assert_row(row, outcome)
        else:
            assert isinstance(outcome, Proof)
            assert outcome.stage == 1


@pytest.mark.parametrize("row", [row for row in ASKED_ONLY if row.billed], ids=str)
def test_what_is_wrong_with_an_answer_is_reported_with_the_tokens_on_the_bill(
    row: Row, connect: Connect, key_with: KeyWith, sandbox: SandboxServer
) -> None:
    outcome = ask(connect, row.provider, key_with(row.provider, row.fault), 10.0)
    assert isinstance(outcome, Failure)
    assert outcome.tokens is not None
    (billed,) = sandbox.billed_calls()
    assert (billed["input_tokens"], billed["output_tokens"]) == (
        outcome.tokens.input,
        outcome.tokens.output,
    )
    assert (billed["model"], billed["request_id"]) == (outcome.model, outcome.request_id)


@pytest.mark.parametrize("provider", list(Provider))
def test_an_answer_agrees_with_the_bill_to_the_token_also_when_it_was_cached(
    provider: Provider, connect: Connect, key_with: KeyWith, sandbox: SandboxServer
) -> None:
    question = Question(
        model=MODELS[provider], system="Be brief. " * 1_000, user="hello", schema=Signals
    )

    async def run() -> list[Answer | Failure]:
        client = connect(provider)
        key = key_with(provider, "none")
        outcomes = [await client.ask(key, question) for _ in range(2)]
        await client.close()
        return outcomes

    outcomes = asyncio.run(run())
    for outcome, billed in zip(outcomes, sandbox.billed_calls(), strict=True):
        assert isinstance(outcome, Answer)
        assert isinstance(outcome.value, Signals)
        assert outcome.tokens.input == billed["input_tokens"]
        assert outcome.tokens.cached_read == billed["cached_read_tokens"]
        assert outcome.tokens.cache_write == billed["cache_write_tokens"]
        assert outcome.tokens.output == billed["output_tokens"]
        assert outcome.request_id == billed["request_id"]
        assert outcome.model == billed["model"]
        assert outcome.limits.remaining_requests is not None
        assert outcome.limits.reset_tokens is not None
    second = outcomes[1]
    assert isinstance(second, Answer)
    assert second.tokens.cached_read > 1_000


@pytest.mark.parametrize("provider", list(Provider))
def test_a_restricted_key_is_proven_by_the_second_stage_or_refused_by_it(
    provider: Provider, connect: Connect, key_with: KeyWith
) -> None:
    listing_only_refused = probe(connect, provider, key_with(provider, "restricted"))
    assert isinstance(listing_only_refused, Proof)
    assert listing_only_refused.stage == 2

    refused = probe(connect, provider, key_with(provider, "restrictedall"))
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.code) == (OutcomeClass.RESTRICTED, "restricted")
    verdict = judge_outcome(refused, status=PENDING, reason="new")
    assert (verdict.status, verdict.reason) == (INVALID, "restricted")

    asked = ask(connect, provider, key_with(provider, "restrictedall"), 10.0)
    assert isinstance(asked, Failure)
    assert asked.kind is OutcomeClass.RESTRICTED
    assert judge_outcome(asked, status=VALID, reason="ok").status is VALID


@pytest.mark.parametrize("provider", list(Provider))
def test_a_probe_costs_nothing_unless_quota_is_to_be_proven(
    provider: Provider, connect: Connect, key_with: KeyWith, sandbox: SandboxServer
) -> None:
    assert isinstance(probe(connect, provider, key_with(provider, "none")), Proof)
    assert sandbox.bill() == []

    proof = probe(connect, provider, key_with(provider, "none"), prove_quota=True)
    assert isinstance(proof, Proof)
    assert proof.stage == 2
    billed = sandbox.billed_calls()
    if proof.tokens is None:
        assert billed == []
    else:
        assert billed[0]["input_tokens"] == proof.tokens.input
        assert billed[0]["output_tokens"] == proof.tokens.output == 1
    assert (proof.tokens is None) == (provider is ANTHROPIC)


def test_anthropics_one_token_is_billed_where_counting_is_refused(
    connect: Connect, key_with: KeyWith, sandbox: SandboxServer
) -> None:
    sandbox.fault("restricted", provider="anthropic", endpoint="count_tokens")
    proof = probe(connect, ANTHROPIC, key_with(ANTHROPIC, "none"), prove_quota=True)
    assert isinstance(proof, Proof)
    assert proof.tokens is not None
    (billed,) = sandbox.billed_calls()
    assert billed["input_tokens"] == proof.tokens.input
    assert billed["output_tokens"] == proof.tokens.output == 1


@pytest.mark.parametrize("provider", list(Provider))
def test_a_rate_limit_says_when_to_come_back(
    provider: Provider, connect: Connect, key_with: KeyWith, sandbox: SandboxServer
) -> None:
    sandbox.fault("ratelimited", retry_after=7)
    outcome = ask(connect, provider, key_with(provider, "none"), 10.0)
    assert isinstance(outcome, Failure)
    assert outcome.retry_after == 7.0
    assert outcome.limits.remaining_requests == 0
    assert outcome.limits.reset_requests == pytest.approx(7.0, abs=1.1)


@pytest.mark.parametrize("provider", list(Provider))
def test_a_model_that_does_not_exist_leaves_the_key_valid(
    provider: Provider, connect: Connect, key_with: KeyWith
) -> None:
    async def run() -> Answer | Failure:
        client = connect(provider)
        question = Question(model="no-such-model", system="s", user="u", schema=Signals)
        outcome = await client.ask(key_with(provider, "none"), question)
        await client.close()
        return outcome

    outcome = asyncio.run(run())
    assert isinstance(outcome, Failure)
    assert outcome.kind is OutcomeClass.MODEL_UNAVAILABLE
    assert judge_outcome(outcome, status=VALID, reason="ok").status is VALID


@pytest.mark.parametrize("provider", list(Provider))
def test_a_key_of_the_other_provider_is_rejected(
    provider: Provider, connect: Connect, key_with: KeyWith
) -> None:
    other = ANTHROPIC if provider is OPENAI else OPENAI
    outcome = ask(connect, provider, key_with(other, "none"), 10.0)
    assert isinstance(outcome, Failure)
    assert outcome.kind is OutcomeClass.REJECTED


@pytest.mark.parametrize("provider", list(Provider))
def test_a_provider_that_recovers_is_used_again_on_the_same_client(
    provider: Provider, connect: Connect, key_with: KeyWith, sandbox: SandboxServer
) -> None:
    for fault in ("reset", "hang", "html", "bill-then-drop"):
        sandbox.fault(fault, endpoint="completion", count=1)

    async def run() -> list[Answer | Failure]:
        client = connect(provider)
        question = Question(
            model=MODELS[provider], system="s", user="u", schema=Signals, timeout=2.0
        )
        key = key_with(provider, "none")
        outcomes = [await client.ask(key, question) for _ in range(5)]
        await client.close()
        return outcomes

    *failed, last = asyncio.run(run())
    assert [outcome.code for outcome in failed if isinstance(outcome, Failure)] == [
        "connection_lost",
        "timeout",
        "server_error",
        "connection_lost",
    ]
    assert isinstance(last, Answer)
