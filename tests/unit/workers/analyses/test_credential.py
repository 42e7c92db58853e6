"""Which key pays: every row of the product's table, by an explicit provider and by `auto`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import KeyStatus, Provider, ProviderChoice
from workers.analyses.credential import (
    PENDING_LIMIT_MS,
    AwaitResumption,
    AwaitVerdict,
    Decision,
    OwnKey,
    Refuse,
    Situation,
    UseOwn,
    UsePlatform,
    choice_of,
    decide,
)

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
AUTO = ProviderChoice.AUTO
BOTH = (OPENAI, ANTHROPIC)

WAITED = 1_000
"""How long the requests of the table have waited, where it is not said otherwise."""

LONG = PENDING_LIMIT_MS


def key(
    provider: Provider,
    status: KeyStatus = KeyStatus.VALID,
    reason: str = "ok",
    *,
    fallback: bool = False,
    in_doubt_ms: int | None = None,
) -> OwnKey:
    """A key of the account."""
    return OwnKey(
        key_id=f"key-{provider}",
        status=status,
        reason=reason,
        in_doubt_ms=in_doubt_ms,
        allow_platform_fallback=fallback,
    )


def situation(
    own: Mapping[Provider, OwnKey],
    choice: ProviderChoice = ProviderChoice.OPENAI,
    *,
    byok: bool = True,
    platform: Sequence[Provider] = BOTH,
    waited_ms: int = WAITED,
) -> Situation:
    return Situation(
        choice=choice, plan_includes_byok=byok, own=own, platform=platform, waited_ms=waited_ms
    )


def explicit(provider: Provider) -> ProviderChoice:
    return ProviderChoice(provider.value)


# What the account's key for the provider is, and what follows with fallback off and on.

VALID: dict[str, Any] = {"status": KeyStatus.VALID}
PENDING: dict[str, Any] = {"status": KeyStatus.PENDING, "reason": ""}
INVALID: dict[str, Any] = {"status": KeyStatus.INVALID, "reason": "rejected"}
NO_QUOTA: dict[str, Any] = {"status": KeyStatus.VALID, "reason": "no_quota"}
DOUBTED: dict[str, Any] = {"status": KeyStatus.VALID, "in_doubt_ms": WAITED}

ROWS = {
    "valid": (VALID, WAITED, "own", "own"),
    "pending": (PENDING, WAITED, "wait", "wait"),
    "pending for long": (PENDING, LONG, "key_pending", "platform:key_pending"),
    "invalid": (INVALID, WAITED, "key_invalid", "platform:key_invalid"),
    "invalid for long": (INVALID, LONG, "key_invalid", "platform:key_invalid"),
    "no quota": (NO_QUOTA, WAITED, "key_no_quota", "platform:key_no_quota"),
    "no quota for long": (NO_QUOTA, LONG, "key_no_quota", "platform:key_no_quota"),
    "in doubt": (DOUBTED, WAITED, "wait", "wait"),
    "in doubt, asked long ago": (DOUBTED, LONG, "wait", "wait"),
    "in doubt for long": (
        DOUBTED | {"in_doubt_ms": LONG},
        WAITED,
        "key_pending",
        "platform:key_pending",
    ),
    "invalid and in doubt": (
        INVALID | {"in_doubt_ms": WAITED},
        WAITED,
        "key_invalid",
        "platform:key_invalid",
    ),
    "no quota and in doubt": (NO_QUOTA | {"in_doubt_ms": WAITED}, WAITED, "wait", "wait"),
}


def expected(told: str, provider: Provider, row: Mapping[str, Any], waited: int) -> Decision:
    """What a cell of the table says."""
    if told == "own":
        return UseOwn(provider, f"key-{provider}")
    if told == "wait":
        in_doubt = row.get("in_doubt_ms")
        for_ms = PENDING_LIMIT_MS - (waited if in_doubt is None else in_doubt)
        return AwaitVerdict(f"key-{provider}", for_ms)
    if told.startswith("platform:"):
        return UsePlatform(provider, told.partition(":")[2])
    return Refuse(told)


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("auto", [False, True])
def test_each_cell_of_the_table(name: str, fallback: bool, provider: Provider, auto: bool) -> None:
    row, waited, off, on = ROWS[name]
    own = {provider: key(provider, **row, fallback=fallback)}
    found = decide(situation(own, AUTO if auto else explicit(provider), waited_ms=waited))
    assert found == expected(on if fallback else off, provider, row, waited)


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_a_plan_without_own_keys_is_paid_by_the_platform(
    name: str, fallback: bool, provider: Provider
) -> None:
    row, waited, _, _ = ROWS[name]
    own = {provider: key(provider, **row, fallback=fallback)}
    asked = situation(own, explicit(provider), byok=False, waited_ms=waited)
    assert decide(asked) == UsePlatform(provider, "plan")
    asked = situation(own, AUTO, byok=False, waited_ms=waited)
    assert decide(asked) == UsePlatform(OPENAI, "plan")


@pytest.mark.parametrize("byok", [True, False])
@pytest.mark.parametrize("provider", BOTH)
def test_without_a_key_the_platform_pays_and_it_is_no_fallback(
    provider: Provider, byok: bool
) -> None:
    assert decide(situation({}, explicit(provider), byok=byok)) == UsePlatform(provider)


@pytest.mark.parametrize("order", [BOTH, BOTH[::-1], (ANTHROPIC,)])
@pytest.mark.parametrize("byok", [True, False])
def test_without_any_key_auto_takes_the_platforms_first(
    order: Sequence[Provider], byok: bool
) -> None:
    assert decide(situation({}, AUTO, byok=byok, platform=order)) == UsePlatform(order[0])


@pytest.mark.parametrize("provider", BOTH)
def test_a_key_of_one_provider_does_not_pay_for_another(provider: Provider) -> None:
    other = ANTHROPIC if provider is OPENAI else OPENAI
    own = {other: key(other)}
    assert decide(situation(own, explicit(provider))) == UsePlatform(provider)


# Where the platform has no key


@pytest.mark.parametrize("provider", BOTH)
def test_where_the_platform_has_no_key_its_cells_are_refused(provider: Provider) -> None:
    other = [p for p in BOTH if p is not provider]
    for own, byok in (
        ({}, True),
        ({provider: key(provider, KeyStatus.INVALID, fallback=True)}, True),
        ({provider: key(provider)}, False),
    ):
        asked = situation(own, explicit(provider), byok=byok, platform=other)
        assert decide(asked) == Refuse("platform_unavailable")


@pytest.mark.parametrize("own", [{}, {OPENAI: key(OPENAI)}])
def test_auto_without_any_platform_is_refused(own: dict[Provider, OwnKey]) -> None:
    asked = situation(own, AUTO, byok=False, platform=())
    assert decide(asked) == Refuse("platform_unavailable")


def test_an_own_key_needs_no_platform() -> None:
    for choice in (AUTO, ProviderChoice.OPENAI):
        asked = situation({OPENAI: key(OPENAI)}, choice, platform=())
        assert decide(asked) == UseOwn(OPENAI, "key-openai")


# Auto with two keys


def auto(openai: OwnKey, anthropic: OwnKey, waited_ms: int = WAITED) -> Decision:
    return decide(situation({ANTHROPIC: anthropic, OPENAI: openai}, AUTO, waited_ms=waited_ms))


def test_auto_takes_the_first_provider_whose_key_is_valid() -> None:
    assert auto(key(OPENAI), key(ANTHROPIC)) == UseOwn(OPENAI, "key-openai")


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("row", [PENDING, INVALID, NO_QUOTA, DOUBTED])
def test_auto_takes_another_own_key_that_is_valid_before_anything_else(
    row: dict[str, Any], fallback: bool
) -> None:
    first = auto(key(OPENAI, **row, fallback=fallback), key(ANTHROPIC))
    assert first == UseOwn(ANTHROPIC, "key-anthropic")
    second = auto(key(OPENAI), key(ANTHROPIC, **row, fallback=fallback))
    assert second == UseOwn(OPENAI, "key-openai")


@pytest.mark.parametrize("row", [INVALID, NO_QUOTA])
def test_auto_waits_for_a_verdict_before_it_leaves_for_the_platform(row: dict[str, Any]) -> None:
    found = auto(key(OPENAI, **row, fallback=True), key(ANTHROPIC, **PENDING))
    assert found == AwaitVerdict("key-anthropic", PENDING_LIMIT_MS - WAITED)


def test_auto_leaves_for_the_platform_only_by_a_key_that_allows_it() -> None:
    found = auto(key(OPENAI, **INVALID), key(ANTHROPIC, **NO_QUOTA, fallback=True))
    assert found == UsePlatform(ANTHROPIC, "key_no_quota")
    found = auto(key(OPENAI, **INVALID), key(ANTHROPIC, **NO_QUOTA))
    assert found == Refuse("key_invalid")


def test_auto_with_two_keys_that_stay_pending_ends_with_the_first() -> None:
    found = auto(key(OPENAI, **PENDING), key(ANTHROPIC, **PENDING), waited_ms=LONG)
    assert found == Refuse("key_pending")
    found = auto(key(OPENAI, **PENDING), key(ANTHROPIC, **PENDING, fallback=True), waited_ms=LONG)
    assert found == UsePlatform(ANTHROPIC, "key_pending")


@pytest.mark.parametrize("waited", [0, 1, PENDING_LIMIT_MS - 1, PENDING_LIMIT_MS, 10**9])
def test_nobody_waits_longer_than_ten_minutes_for_a_verdict(waited: int) -> None:
    assert PENDING_LIMIT_MS == 600_000
    found = decide(situation({OPENAI: key(OPENAI, **PENDING)}, waited_ms=waited))
    if waited < PENDING_LIMIT_MS:
        assert found == AwaitVerdict("key-openai", PENDING_LIMIT_MS - waited)
    else:
        assert found == Refuse("key_pending")


# Whatever the keys are

keys_of_any_kind = st.builds(
    OwnKey,
    key_id=st.just("key"),
    status=st.sampled_from([KeyStatus.VALID, KeyStatus.PENDING, KeyStatus.INVALID]),
    reason=st.sampled_from(["", "ok", "no_quota", "rejected"]),
    in_doubt_ms=st.sampled_from([None, 0, WAITED, LONG]),
    allow_platform_fallback=st.booleans(),
)


@settings(max_examples=200)
@given(
    own=st.dictionaries(st.sampled_from(BOTH), keys_of_any_kind),
    choice=st.sampled_from(ProviderChoice),
    platform=st.sampled_from([(), (OPENAI,), (ANTHROPIC,), BOTH]),
    waited_ms=st.sampled_from([0, WAITED, LONG]),
)
def test_the_platform_never_pays_for_a_key_that_does_not_allow_it(
    own: dict[Provider, OwnKey],
    choice: ProviderChoice,
    platform: Sequence[Provider],
    waited_ms: int,
) -> None:
    found = decide(situation(own, choice, platform=platform, waited_ms=waited_ms))
    asked_for = BOTH if choice is AUTO else (Provider(choice.value),)
    configured = {p: k for p, k in own.items() if p in asked_for}
    if isinstance(found, UsePlatform) and configured:
        assert configured[found.provider].allow_platform_fallback
        assert found.fallback is not None
    if isinstance(found, UseOwn):
        paying = configured[found.provider]
        assert paying.status is KeyStatus.VALID
        assert paying.reason != "no_quota"
        assert paying.in_doubt_ms is None
    usable = [
        k
        for k in configured.values()
        if k.status is KeyStatus.VALID and k.reason != "no_quota" and k.in_doubt_ms is None
    ]
    assert isinstance(found, UseOwn) == bool(usable)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-haiku-5-5", ProviderChoice.ANTHROPIC),
        ("gpt-5.4-mini", ProviderChoice.OPENAI),
        ("o3", ProviderChoice.OPENAI),
        ("ft:gpt-5.4:acme", ProviderChoice.OPENAI),
        ("something-else", ProviderChoice.AUTO),
        (None, ProviderChoice.AUTO),
    ],
)
def test_auto_with_a_model_means_the_provider_that_has_it(
    model: str | None, expected: ProviderChoice
) -> None:
    assert choice_of(ProviderChoice.AUTO, model) is expected
    assert choice_of(ProviderChoice.OPENAI, model) is ProviderChoice.OPENAI


def paused(given: Situation, *providers: Provider) -> Decision:
    return decide(replace(given, paused=providers))


def test_what_would_call_a_paused_provider_waits() -> None:
    waits = AwaitResumption(OPENAI)
    assert paused(situation({OPENAI: key(OPENAI)}), OPENAI) == waits
    assert paused(situation({OPENAI: key(OPENAI, KeyStatus.PENDING)}), OPENAI) == waits
    assert paused(situation({}), OPENAI) == waits
    assert paused(situation({}, AUTO), *BOTH) == waits


def test_what_a_paused_provider_could_not_help_is_refused_as_ever() -> None:
    own = {OPENAI: key(OPENAI, KeyStatus.INVALID, "rejected")}
    assert paused(situation(own), OPENAI) == Refuse("key_invalid")


def test_auto_goes_elsewhere_while_a_provider_is_paused_only_where_it_may() -> None:
    both = {provider: key(provider) for provider in BOTH}
    assert paused(situation(both, AUTO), OPENAI) == UseOwn(ANTHROPIC, "key-anthropic")
    assert paused(situation({}, AUTO), OPENAI) == UsePlatform(ANTHROPIC)
    strict, lenient = {OPENAI: key(OPENAI)}, {OPENAI: key(OPENAI, fallback=True)}
    assert paused(situation(strict, AUTO), OPENAI) == AwaitResumption(OPENAI)
    assert paused(situation(lenient, AUTO), OPENAI) == UsePlatform(ANTHROPIC, "provider_outage")


def test_the_time_for_a_verdict_starts_anew_when_the_provider_goes_on() -> None:
    own = {OPENAI: key(OPENAI, KeyStatus.PENDING)}
    long_ago = situation(own, waited_ms=2 * LONG)
    assert decide(long_ago) == Refuse("key_pending")
    assert paused(long_ago, OPENAI) == AwaitResumption(OPENAI)
    resumed = replace(long_ago, resumed_ms={OPENAI: 1_000})
    assert decide(resumed) == AwaitVerdict("key-openai", LONG - 1_000)
