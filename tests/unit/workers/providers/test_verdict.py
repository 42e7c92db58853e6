"""The table "What an answer means", row by row, and the traps beside it."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from events.keys import KeyStatus, Provider
from workers.providers import (
    Answer,
    Code,
    Failure,
    OutcomeClass,
    Proof,
    Reason,
    Tokens,
    Verdict,
    judge,
    judge_outcome,
)
from workers.providers.verdict import Seen, Trouble, classify

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
MODEL = "some-model-1"

SCOPES = (
    "You have insufficient permissions for this operation. Missing scopes: model.request. Check "
    "that you have the correct role in your organization (Reader, Writer, Owner)"
)
INVALID = "Incorrect API key provided: sk-proj-*********abcd. You can find your API key at https://"
TYPE = "invalid_request_error"
CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing"


def row(provider: Provider, status: int, kind: str, ours: str, /, **seen: Any) -> Any:
    """One line of the table: what is seen, and its class and code in our words."""
    label = f"{provider}-{status}-{seen.get('code') or seen.get('type') or 'bare'}-{kind}-{ours}"
    fields = {"model": MODEL} | seen
    seen_whole = Seen(provider=provider, status=status, **fields)
    return pytest.param(seen_whole, OutcomeClass(kind), Code(ours), id=label)


TABLE = [
    # 401 invalid, revoked, deactivated
    row(OPENAI, 401, "rejected", "invalid_api_key", code="invalid_api_key", message=INVALID),
    row(OPENAI, 401, "rejected", "invalid_api_key", code=None, type=TYPE, message="No API key."),
    row(OPENAI, 401, "rejected", "deactivated", code="account_deactivated"),
    row(OPENAI, 401, "rejected", "revoked", code="invalid_api_key", message="It was revoked."),
    row(OPENAI, 401, "rejected", "expired", code="invalid_api_key", message="The key has expired"),
    row(OPENAI, 401, "rejected", "other", code="something_new"),
    row(ANTHROPIC, 401, "rejected", "invalid_api_key", type="authentication_error"),
    row(ANTHROPIC, 401, "rejected", "revoked", message="This API key has been revoked."),
    row(ANTHROPIC, 401, "rejected", "deactivated", message="This organization has been disabled."),
    row(ANTHROPIC, 403, "rejected", "deactivated", message="This organization has been disabled."),
    row(ANTHROPIC, 400, "rejected", "deactivated", message="This organization has been disabled."),
    row(ANTHROPIC, 400, "rejected", "deactivated", code="organization_on_hold", type=TYPE),
    # 401 or 403 that speaks of missing scopes or permission
    row(OPENAI, 401, "restricted", "missing_scope", code=None, type=TYPE, message=SCOPES),
    row(OPENAI, 401, "restricted", "missing_scope", code="missing_scope"),
    row(OPENAI, 403, "restricted", "missing_scope", code=None, type=TYPE, message=SCOPES),
    row(OPENAI, 403, "restricted", "permission_denied", code="insufficient_permissions"),
    row(OPENAI, 403, "restricted", "permission_denied", message="No permission for this."),
    row(OPENAI, 403, "restricted", "permission_denied"),
    row(OPENAI, 403, "restricted", "other", code="something_new"),
    row(ANTHROPIC, 401, "restricted", "permission_denied", type="permission_error"),
    row(ANTHROPIC, 403, "restricted", "permission_denied", type="permission_error"),
    row(ANTHROPIC, 403, "restricted", "missing_scope", code="api_key_scope_missing"),
    # 401 "IP not authorized", 403 unsupported region
    row(OPENAI, 401, "forbidden", "ip_not_allowed", code="ip_not_authorized"),
    row(OPENAI, 401, "forbidden", "ip_not_allowed", message="Your IP is not authorized"),
    row(OPENAI, 403, "forbidden", "region", code="unsupported_country_region_territory"),
    row(OPENAI, 403, "forbidden", "region", message="Country, region, or territory not supported"),
    row(ANTHROPIC, 401, "forbidden", "ip_not_allowed", message="This IP address is not authorized"),
    row(
        ANTHROPIC, 403, "forbidden", "ip_not_allowed", message="IP address is not on the allowlist"
    ),
    row(ANTHROPIC, 403, "forbidden", "region", type="forbidden", message="Request not allowed"),
    # 403 or 404 on one model only
    row(OPENAI, 404, "model_unavailable", "model_not_found", code="model_not_found"),
    row(OPENAI, 403, "model_unavailable", "model_not_found", code="model_not_found"),
    row(OPENAI, 403, "model_unavailable", "model_not_found", message="No access to model `m`."),
    row(OPENAI, 400, "model_unavailable", "model_not_found", code="model_not_found"),
    row(ANTHROPIC, 404, "model_unavailable", "model_not_found", message=f"model: {MODEL}"),
    row(ANTHROPIC, 404, "model_unavailable", "model_not_found", message=f"{MODEL} has retired"),
    # 429 that is a rate limit, whatever its type says
    row(OPENAI, 429, "rate_limited", "rate_limit_exceeded", code="rate_limit_exceeded"),
    row(
        *(OPENAI, 429, "rate_limited", "rate_limit_exceeded"),
        code="rate_limit_exceeded",
        type="insufficient_quota",
    ),
    row(OPENAI, 429, "rate_limited", "rate_limit_exceeded"),
    row(OPENAI, 429, "rate_limited", "rate_limit_exceeded", readable=False),
    row(OPENAI, 429, "rate_limited", "slow_down", code="slow_down", type="rate_limit_error"),
    row(OPENAI, 429, "rate_limited", "other", code="something_new", type="requests"),
    row(ANTHROPIC, 429, "rate_limited", "rate_limit_exceeded", type="rate_limit_error"),
    row(ANTHROPIC, 429, "rate_limited", "ramp_limit_exceeded", code="ramp_limit_exceeded"),
    # 429 that is a billing stop
    *(
        row(OPENAI, 429, "no_quota", code, code=code, type="insufficient_quota")
        for code in (
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "billing_not_active",
        )
    ),
    row(OPENAI, 429, "no_quota", "insufficient_quota", code=None, type="insufficient_quota"),
    row(OPENAI, 429, "no_quota", "other", code="something_new", type="insufficient_quota"),
    row(OPENAI, 402, "no_quota", "billing_error"),
    row(OPENAI, 400, "no_quota", "billing_hard_limit_reached", code="billing_hard_limit_reached"),
    row(ANTHROPIC, 402, "no_quota", "billing_error", type="billing_error"),
    row(ANTHROPIC, 402, "no_quota", "other", code="something_new"),
    *(
        row(ANTHROPIC, status, "no_quota", code, code=code, type=kind)
        for status, code, kind in (
            (429, "enforced_spend_limit_reached", "rate_limit_error"),
            (429, "contract_spend_limit_reached", "rate_limit_error"),
            (402, "linked_organization_spend_limit_reached", "billing_error"),
            (402, "linked_organization_billing_unavailable", "billing_error"),
        )
    ),
    row(ANTHROPIC, 400, "no_quota", "credit_balance_exhausted", type=TYPE, message=CREDIT),
    row(
        *(ANTHROPIC, 400, "no_quota", "usage_limit_exceeded"),
        message="You have reached your specified API usage limits. You will regain access on",
    ),
    # 5xx, and what is not the provider's answer
    row(OPENAI, 500, "unavailable", "server_error", type="server_error"),
    row(OPENAI, 500, "unavailable", "other", code="something_new"),
    row(OPENAI, 500, "unavailable", "server_error", code="internal_error"),
    row(OPENAI, 502, "unavailable", "server_error", readable=False),
    row(OPENAI, 503, "unavailable", "overloaded", code="server_is_overloaded"),
    row(OPENAI, 503, "unavailable", "slow_down", code="slow_down"),
    row(OPENAI, 504, "unavailable", "timeout", type="server_error"),
    row(OPENAI, 500, "unavailable", "other", code="invalid_api_key"),
    row(ANTHROPIC, 500, "unavailable", "server_error", type="api_error"),
    row(ANTHROPIC, 504, "unavailable", "timeout", type="timeout_error"),
    row(ANTHROPIC, 529, "unavailable", "overloaded", type="overloaded_error"),
    row(ANTHROPIC, 529, "unavailable", "overloaded", readable=False),
    row(OPENAI, 401, "unavailable", "malformed", readable=False),
    row(OPENAI, 403, "unavailable", "malformed", readable=False),
    row(ANTHROPIC, 400, "unavailable", "malformed", readable=False),
    row(OPENAI, 404, "unavailable", "not_found", readable=False),
    row(ANTHROPIC, 404, "unavailable", "not_found", type="not_found_error", message="Not found"),
    row(OPENAI, 307, "unavailable", "redirect"),
    row(OPENAI, 204, "unavailable", "malformed"),
    row(OPENAI, 407, "unavailable", "connect_error", readable=False),
    row(OPENAI, 408, "unavailable", "timeout"),
    row(OPENAI, 409, "unavailable", "conflict"),
    # 400 otherwise, context too long
    row(OPENAI, 400, "bad_request", "invalid_request", code=None, type=TYPE),
    row(OPENAI, 400, "bad_request", "invalid_request", code="unsupported_parameter"),
    row(OPENAI, 400, "bad_request", "other", code="something_new"),
    row(OPENAI, 400, "bad_request", "context_length_exceeded", code="context_length_exceeded"),
    row(OPENAI, 400, "bad_request", "content_policy", code="invalid_prompt"),
    row(OPENAI, 413, "bad_request", "request_too_large"),
    row(OPENAI, 422, "bad_request", "invalid_request"),
    row(ANTHROPIC, 400, "bad_request", "invalid_request", type=TYPE),
    row(
        *(ANTHROPIC, 400, "bad_request", "context_length_exceeded"),
        message="prompt is too long: 200001 tokens > 200000 maximum",
    ),
    row(ANTHROPIC, 413, "bad_request", "request_too_large", type="request_too_large"),
    # A 400 that only quotes such words, as of a mail, is still a bad request.
    row(ANTHROPIC, 400, "bad_request", "invalid_request", message=f"messages.0: '{CREDIT}'"),
    row(OPENAI, 400, "bad_request", "invalid_request", message="'your organization is disabled'"),
    # The model ran, and had no room to speak.
    row(
        *(OPENAI, 400, "bad_answer", "length"),
        message="Could not finish the message because max_tokens or model output limit was reached",
    ),
]


@pytest.mark.parametrize(("seen", "kind", "code"), TABLE)
def test_an_answer_means_what_the_table_says(seen: Seen, kind: OutcomeClass, code: Code) -> None:
    meaning = classify(seen)
    assert (meaning.kind, meaning.code) == (kind, code)


@pytest.mark.parametrize("trouble", list(Trouble))
def test_trouble_on_the_way_is_an_outage(trouble: Trouble) -> None:
    meaning = classify(Seen(provider=OPENAI, trouble=trouble))
    assert meaning.kind is OutcomeClass.UNAVAILABLE
    assert meaning.code == trouble.value


def test_only_a_call_that_names_a_model_can_find_it_missing() -> None:
    text = "Your API key does not have permission to use this model."
    asked = Seen(provider=ANTHROPIC, status=403, type="permission_error", message=text, model=MODEL)
    listed = Seen(provider=ANTHROPIC, status=403, type="permission_error", message=text)
    assert classify(asked).kind is OutcomeClass.MODEL_UNAVAILABLE
    assert classify(listed).kind is OutcomeClass.RESTRICTED


def test_a_piece_of_a_key_with_ip_in_it_is_no_word_about_an_address() -> None:
    text = "Incorrect API key provided: sk-ip-authorized-IPallow."
    seen = Seen(provider=OPENAI, status=401, code="invalid_api_key", message=text)
    assert classify(seen).kind is OutcomeClass.REJECTED


passing = st.sampled_from([408, 409, 429, 500, 502, 503, 504, 520, 529, 599])
words = st.one_of(
    st.none(),
    st.sampled_from([*Code, "permission_error", "authentication_error", "account_deactivated"]),
    st.text(max_size=30),
)
messages = st.one_of(
    st.sampled_from([INVALID, SCOPES, CREDIT, "This organization has been disabled."]),
    st.text(max_size=200),
)


@given(
    provider=st.sampled_from(Provider),
    status=passing,
    code=words,
    kind=words,
    message=messages,
    readable=st.booleans(),
    model=st.sampled_from([None, MODEL]),
)
def test_no_429_and_no_5xx_ever_makes_a_valid_key_invalid(
    *,
    provider: Provider,
    status: int,
    code: str | None,
    kind: str | None,
    message: str,
    readable: bool,
    model: str | None,
) -> None:
    seen = Seen(
        provider=provider,
        status=status,
        code=code,
        type=kind,
        message=message,
        readable=readable,
        model=model,
    )
    meaning = classify(seen)
    after = judge(meaning.kind, meaning.code, status=KeyStatus.VALID, reason="ok")
    assert after.status is KeyStatus.VALID
    assert after.reason in ("ok", "no_quota")


@given(
    provider=st.sampled_from(Provider),
    status=st.integers(100, 700),
    code=words,
    kind=words,
    message=messages,
)
def test_whatever_a_provider_says_only_words_of_ours_come_out(
    provider: Provider, status: int, code: str | None, kind: str | None, message: str
) -> None:
    seen = Seen(provider=provider, status=status, code=code, type=kind, message=message)
    meaning = classify(seen)
    assert isinstance(meaning.kind, OutcomeClass)
    assert meaning.kind is not OutcomeClass.OK
    assert type(meaning.code) is Code


def test_a_message_does_not_show_in_what_was_seen() -> None:
    assert "sk-" not in repr(Seen(provider=OPENAI, status=401, message=INVALID))


PENDING, VALID = KeyStatus.PENDING, KeyStatus.VALID
INVALID_KEY, REMOVED = KeyStatus.INVALID, KeyStatus.REMOVED


@pytest.mark.parametrize("before", [PENDING, VALID, INVALID_KEY])
@pytest.mark.parametrize(
    ("kind", "code", "status", "reason"),
    [
        (OutcomeClass.OK, "", VALID, "ok"),
        (OutcomeClass.NO_QUOTA, "insufficient_quota", VALID, "no_quota"),
        (OutcomeClass.REJECTED, "invalid_api_key", INVALID_KEY, "rejected"),
        (OutcomeClass.REJECTED, "other", INVALID_KEY, "rejected"),
        (OutcomeClass.REJECTED, "expired", INVALID_KEY, "rejected"),
        (OutcomeClass.REJECTED, "revoked", INVALID_KEY, "revoked"),
        (OutcomeClass.REJECTED, "deactivated", INVALID_KEY, "deactivated"),
        (OutcomeClass.FORBIDDEN, "ip_not_allowed", INVALID_KEY, "ip_not_allowed"),
        (OutcomeClass.FORBIDDEN, "region", INVALID_KEY, "region"),
        (OutcomeClass.RESTRICTED, "restricted", INVALID_KEY, "restricted"),
    ],
)
def test_a_verdict_moves_a_key(
    before: KeyStatus, kind: OutcomeClass, code: str, status: KeyStatus, reason: str
) -> None:
    assert judge(kind, code, status=before, reason="before") == Verdict(status, reason)


@pytest.mark.parametrize("before", [PENDING, VALID, INVALID_KEY])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (OutcomeClass.RATE_LIMITED, "rate_limit_exceeded"),
        (OutcomeClass.UNAVAILABLE, "timeout"),
        (OutcomeClass.MODEL_UNAVAILABLE, "model_not_found"),
        (OutcomeClass.BAD_REQUEST, "invalid_request"),
        (OutcomeClass.BAD_ANSWER, "refusal"),
        (OutcomeClass.RESTRICTED, "missing_scope"),
        (OutcomeClass.RESTRICTED, "permission_denied"),
    ],
)
def test_what_says_nothing_of_a_key_leaves_it_as_it_is(
    before: KeyStatus, kind: OutcomeClass, code: str
) -> None:
    assert judge(kind, code, status=before, reason="before") == Verdict(before, "before")


def test_no_verdict_brings_a_removed_key_back() -> None:
    for kind, code in itertools.product(OutcomeClass, Code):
        after = judge(kind, code, status=REMOVED, reason="removed")
        assert after == Verdict(REMOVED, "removed")


def test_every_verdict_has_a_reason_of_the_closed_set() -> None:
    for kind, code in itertools.product(OutcomeClass, [*Code, "of an older version"]):
        after = judge(kind, code, status=PENDING, reason="new")
        assert after.reason == "new" or after.reason in set(Reason)


def test_the_free_list_of_models_does_not_end_a_lack_of_quota() -> None:
    listed = Proof(stage=1, request_id=None)
    spent = Proof(stage=2, request_id=None)
    assert judge_outcome(listed, status=VALID, reason="no_quota") == Verdict(VALID, "no_quota")
    assert judge_outcome(spent, status=VALID, reason="no_quota") == Verdict(VALID, "ok")
    assert judge_outcome(listed, status=PENDING, reason="new") == Verdict(VALID, "ok")


class Anything(BaseModel):
    """An answer of no interest."""


def test_an_answer_makes_a_key_valid_and_a_failure_is_judged_by_its_class() -> None:
    answer = Answer(value=Anything(), model=MODEL, tokens=Tokens(), request_id=None)
    failure = Failure(kind=OutcomeClass.REJECTED, code="revoked")
    assert judge_outcome(answer, status=PENDING, reason="new") == Verdict(VALID, "ok")
    assert judge_outcome(failure, status=VALID, reason="ok") == Verdict(INVALID_KEY, "revoked")
