"""Where a request goes while a provider is in an outage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import KeyStatus, Provider, ProviderChoice
from workers.analyses.credential import (
    OwnKey,
    Refuse,
    Situation,
    UseOwn,
    UsePlatform,
    decide,
)

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
BOTH = (OPENAI, ANTHROPIC)
AUTO = ProviderChoice.AUTO


def key(
    provider: Provider,
    *,
    fallback: bool = False,
    status: KeyStatus = KeyStatus.VALID,
    reason: str = "ok",
) -> OwnKey:
    """A key of the account."""
    return OwnKey(
        key_id=f"key-{provider}",
        status=status,
        reason=reason,
        in_doubt_ms=None,
        allow_platform_fallback=fallback,
    )


def route(
    *own: OwnKey,
    out: tuple[Provider, ...] = (OPENAI,),
    choice: ProviderChoice = AUTO,
    byok: bool = True,
    platform: tuple[Provider, ...] = BOTH,
) -> object:
    """What is decided for an account with these keys."""
    return decide(
        Situation(
            choice=choice,
            plan_includes_byok=byok,
            own={Provider(one.key_id.removeprefix("key-")): one for one in own},
            platform=platform,
            waited_ms=0,
            out=out,
        )
    )


def test_auto_takes_another_own_key_that_works() -> None:
    own = (key(OPENAI, fallback=True), key(ANTHROPIC))
    assert route(*own) == UseOwn(ANTHROPIC, "key-anthropic")
    assert route(*own, out=(ANTHROPIC,)) == UseOwn(OPENAI, "key-openai")


@pytest.mark.parametrize("status", [KeyStatus.PENDING, KeyStatus.INVALID])
def test_auto_does_not_take_another_own_key_that_does_not(status: KeyStatus) -> None:
    other = key(ANTHROPIC, status=status, reason="")
    assert route(key(OPENAI), other) == UseOwn(OPENAI, "key-openai")


@pytest.mark.parametrize("out", [(OPENAI,), BOTH])
def test_auto_leaves_an_own_key_for_the_platform_only_where_it_allows_that(
    out: tuple[Provider, ...],
) -> None:
    assert route(key(OPENAI), out=out) == UseOwn(OPENAI, "key-openai")
    moved = UsePlatform(ANTHROPIC, "provider_outage")
    stays = UseOwn(OPENAI, "key-openai")
    # With all of the platform's providers out as well, nothing is won by that.
    assert route(key(OPENAI, fallback=True), out=out) == (moved if out == (OPENAI,) else stays)


def test_auto_leaves_no_key_for_a_platform_that_has_only_the_provider_that_is_out() -> None:
    own = key(OPENAI, fallback=True)
    assert route(own, platform=(OPENAI,)) == UseOwn(OPENAI, "key-openai")


@pytest.mark.parametrize("byok", [True, False])
def test_without_a_key_that_counts_the_platforms_other_provider_is_taken(byok: bool) -> None:
    own = () if byok else (key(OPENAI),)
    fallback = None if byok else "plan"
    assert route(*own, byok=byok) == UsePlatform(ANTHROPIC, fallback)
    assert route(*own, byok=byok, out=BOTH) == UsePlatform(OPENAI, fallback)
    assert route(*own, byok=byok, platform=(OPENAI,)) == UsePlatform(OPENAI, fallback)


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("out", [(), (OPENAI,), BOTH])
def test_an_explicit_provider_uses_its_row_alone(fallback: bool, out: tuple[Provider, ...]) -> None:
    own = (key(OPENAI, fallback=fallback), key(ANTHROPIC))
    assert route(*own, out=out, choice=ProviderChoice.OPENAI) == UseOwn(OPENAI, "key-openai")
    assert route(out=out, choice=ProviderChoice.OPENAI) == UsePlatform(OPENAI)


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [(KeyStatus.INVALID, "revoked", "key_invalid"), (KeyStatus.VALID, "no_quota", "key_no_quota")],
)
def test_an_outage_changes_nothing_of_a_key_that_does_not_pay(
    status: KeyStatus, reason: str, told: str
) -> None:
    strict = key(OPENAI, status=status, reason=reason)
    easy = key(OPENAI, status=status, reason=reason, fallback=True)
    for choice in (AUTO, ProviderChoice.OPENAI):
        assert route(strict, choice=choice, out=BOTH) == Refuse(told)
        assert route(easy, choice=choice, out=BOTH) == UsePlatform(OPENAI, told)


keys = st.builds(
    key,
    st.just(OPENAI),
    fallback=st.booleans(),
    status=st.sampled_from(list(KeyStatus)),
    reason=st.sampled_from(["ok", "no_quota"]),
)


@given(
    one=keys,
    other=st.none() | st.booleans(),
    out=st.sets(st.sampled_from(BOTH)),
    platform=st.sets(st.sampled_from(BOTH)),
)
def test_no_outage_has_the_platform_pay_for_keys_that_do_not_allow_it(
    one: OwnKey, other: bool | None, out: set[Provider], platform: set[Provider]
) -> None:
    own = [one] if other is None else [one, key(ANTHROPIC, fallback=other)]
    decided = route(*own, out=tuple(out), platform=tuple(platform))
    if isinstance(decided, UsePlatform):
        assert any(each.allow_platform_fallback for each in own)
