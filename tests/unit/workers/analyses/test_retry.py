"""What a failed call means for its request, as a table over every class of outcome."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.analyses.retry import (
    LONGEST_ASKED_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PLATFORM_PAUSE_SECONDS,
    REFUSALS_ALLOWED,
    UNKNOWN_ALLOWED,
    Again,
    AgainAfterVerdict,
    GiveUp,
    KeyOutOfQuota,
    Next,
    decide,
)
from workers.providers.port import Failure, Limits, OutcomeClass

CLASSES = [kind for kind in OutcomeClass if kind is not OutcomeClass.OK]


def after(
    kind: OutcomeClass, *, own: bool, failure: dict[str, Any] | None = None, **met: Any
) -> Next:
    """What follows a failure; `met` is what the request met before."""
    before: dict[str, Any] = {
        "setbacks": 0,
        "refusals": 0,
        "bad_answers": 0,
        "unknown": 0,
        "jitter": 0.0,
    }
    failed = Failure(kind=kind, code="other", **(failure or {}))
    return decide(failed, own_key=own, **before | met)


TABLE: dict[OutcomeClass, tuple[Next, Next]] = {
    # What follows with the account's own key, and with the platform's.
    OutcomeClass.REJECTED: (
        AgainAfterVerdict("key_pending"),
        Again(PLATFORM_PAUSE_SECONDS, "platform_key_refused", cooldown=True),
    ),
    OutcomeClass.RESTRICTED: (
        AgainAfterVerdict("key_pending"),
        Again(PLATFORM_PAUSE_SECONDS, "platform_key_refused", cooldown=True),
    ),
    OutcomeClass.FORBIDDEN: (
        AgainAfterVerdict("key_pending"),
        Again(PLATFORM_PAUSE_SECONDS, "platform_key_refused", cooldown=True),
    ),
    OutcomeClass.NO_QUOTA: (
        KeyOutOfQuota(),
        Again(PLATFORM_PAUSE_SECONDS, "platform_no_quota", cooldown=True),
    ),
    OutcomeClass.UNAVAILABLE: (
        Again(1.0, "provider_unavailable"),
        Again(1.0, "provider_unavailable"),
    ),
    OutcomeClass.BAD_ANSWER: (Again(0, "bad_answer"), Again(0, "bad_answer")),
    OutcomeClass.BAD_REQUEST: (
        GiveUp("bad_request", retryable=False),
        GiveUp("bad_request", retryable=False),
    ),
    OutcomeClass.MODEL_UNAVAILABLE: (
        GiveUp("model_unavailable", retryable=False),
        GiveUp("model_unavailable", retryable=False),
    ),
}


def test_the_table_has_every_class_but_that_of_rate_limits() -> None:
    assert set(TABLE) == set(CLASSES) - {OutcomeClass.RATE_LIMITED}


@pytest.mark.parametrize("own", [True, False])
def test_a_rate_limit_is_waited_for_whoever_pays(own: bool) -> None:
    found = after(OutcomeClass.RATE_LIMITED, own=own)
    assert isinstance(found, Again)
    assert (found.seconds, found.reason) == (2.0, "rate_limited")


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", TABLE)
def test_each_cell_of_the_table(kind: OutcomeClass, own: bool) -> None:
    with_own, with_platform = TABLE[kind]
    assert after(kind, own=own) == (with_own if own else with_platform)


@pytest.mark.parametrize("own", [True, False])
def test_a_second_bad_answer_ends_the_request(own: bool) -> None:
    found = after(OutcomeClass.BAD_ANSWER, own=own, bad_answers=1, setbacks=9)
    assert found == GiveUp("bad_answer", retryable=True)


@pytest.mark.parametrize(
    "kind", [OutcomeClass.REJECTED, OutcomeClass.RESTRICTED, OutcomeClass.FORBIDDEN]
)
def test_a_key_that_validates_and_is_refused_all_the_same_ends_the_request(
    kind: OutcomeClass,
) -> None:
    for refusals in range(REFUSALS_ALLOWED):
        assert isinstance(after(kind, own=True, refusals=refusals), AgainAfterVerdict)
    found = after(kind, own=True, refusals=REFUSALS_ALLOWED)
    assert found == GiveUp("key_refused", retryable=True)
    # Setbacks of another kind are not the key's fault.
    assert isinstance(after(kind, own=True, setbacks=50), AgainAfterVerdict)
    # The platform's key is the operator's matter: the request waits for it.
    assert isinstance(after(kind, own=False, refusals=REFUSALS_ALLOWED), Again)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", CLASSES)
def test_a_request_whose_answers_were_lost_often_is_given_up(kind: OutcomeClass, own: bool) -> None:
    found = after(kind, own=own, unknown=UNKNOWN_ALLOWED)
    assert found == GiveUp("answer_lost", retryable=True)
    assert after(kind, own=own, unknown=UNKNOWN_ALLOWED - 1) == after(kind, own=own)


def test_a_request_that_never_left_is_told_by_its_own_reason() -> None:
    found = decide(
        Failure(kind=OutcomeClass.BAD_REQUEST, code="key_unreadable", sent=False),
        own_key=True,
        setbacks=0,
        refusals=0,
        bad_answers=0,
        unknown=0,
        jitter=0,
    )
    assert found == GiveUp("key_unreadable", retryable=False)


def seconds(found: Next) -> float:
    assert isinstance(found, Again)
    return found.seconds


@pytest.mark.parametrize("own", [True, False])
def test_pauses_of_an_outage_grow_and_are_bounded(own: bool) -> None:
    pauses = [
        seconds(after(OutcomeClass.UNAVAILABLE, own=own, setbacks=n, jitter=1.0)) for n in range(40)
    ]
    assert pauses[:5] == [2, 4, 8, 16, 32]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    assert seconds(after(OutcomeClass.UNAVAILABLE, own=own, setbacks=10**9)) > 0


def test_a_provider_that_says_when_is_asked_again_then() -> None:
    asked = {"retry_after": 40.0}
    assert seconds(after(OutcomeClass.RATE_LIMITED, own=True, failure=asked)) == 40
    assert seconds(after(OutcomeClass.UNAVAILABLE, own=True, failure=asked)) == 20
    assert seconds(after(OutcomeClass.UNAVAILABLE, own=True, failure=asked, jitter=1)) == 40


@pytest.mark.parametrize("kind", [OutcomeClass.RATE_LIMITED, OutcomeClass.UNAVAILABLE])
def test_what_a_provider_asks_is_believed_up_to_a_point(kind: OutcomeClass) -> None:
    weeks = {"retry_after": 30 * 86_400.0}
    for jitter in (0.0, 0.5, 1.0):
        found = seconds(after(kind, own=True, failure=weeks, jitter=jitter))
        assert found <= LONGEST_ASKED_SECONDS * 1.2


@pytest.mark.parametrize(
    ("limits", "wait"),
    [
        (Limits(), 2),
        (Limits(reset_requests=7), 7),
        (Limits(reset_tokens=9), 9),
        # Of an answer that does not tell which limit it was, the sooner.
        (Limits(reset_requests=7, reset_tokens=900), 7),
        # The one that is used up is the one to wait for.
        (Limits(remaining_requests=5, reset_requests=7, remaining_tokens=0, reset_tokens=60), 60),
        (Limits(remaining_requests=0, reset_requests=7, remaining_tokens=9, reset_tokens=60), 7),
        (Limits(remaining_requests=0, reset_requests=7, remaining_tokens=0, reset_tokens=60), 60),
        (Limits(remaining_requests=0), 2),
    ],
)
def test_a_rate_limit_is_waited_for_as_the_answer_tells(limits: Limits, wait: float) -> None:
    found = after(OutcomeClass.RATE_LIMITED, own=True, failure={"limits": limits})
    assert seconds(found) == wait


def test_the_providers_own_word_counts_more_than_its_headers() -> None:
    failure = {"retry_after": 3.0, "limits": Limits(reset_requests=70)}
    assert seconds(after(OutcomeClass.RATE_LIMITED, own=True, failure=failure)) == 3


@settings(max_examples=200)
@given(
    kind=st.sampled_from(CLASSES),
    own=st.booleans(),
    setbacks=st.integers(0, 10**6),
    refusals=st.integers(0, 10),
    bad_answers=st.integers(0, 10),
    unknown=st.integers(0, 10),
    jitter=st.floats(0, 1),
    retry_after=st.none() | st.floats(0, 1e9),
)
def test_whatever_happened_the_next_step_is_soon_enough(
    kind: OutcomeClass, own: bool, retry_after: float | None, **met: Any
) -> None:
    found = after(kind, own=own, failure={"retry_after": retry_after}, **met)
    if isinstance(found, Again):
        assert 0 <= found.seconds <= LONGEST_ASKED_SECONDS * 1.2
        assert found.reason
    if isinstance(found, KeyOutOfQuota | AgainAfterVerdict):
        assert own, "only an own key is doubted"
