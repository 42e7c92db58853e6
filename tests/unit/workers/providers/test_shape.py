"""What is told of a pasted key without asking anybody."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from events.keys import Provider
from workers.providers import ShapeProblem, check_shape

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
BLANKS = " \t\r\n\v\f\u00a0\u1680\u2003\u2028\u2029\u202f\u3000\x85\u200b\u2060\ufeff"
key_bodies = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("provider", "pasted", "problem"),
    [
        (OPENAI, "", "malformed"),
        (OPENAI, "   \n", "malformed"),
        (OPENAI, "hunter2", "malformed"),
        (OPENAI, "SK-FAKE-UPPER", "malformed"),
        (OPENAI, "sk_fake_underscores", "malformed"),
        (OPENAI, "Bearer sk-fake-with-scheme", "malformed"),
        (OPENAI, "OPENAI_API_KEY=sk-fake", "malformed"),
        (OPENAI, "sk-fake inner-space", "malformed"),
        (OPENAI, "sk-fake\ninner-line-end", "malformed"),
        (OPENAI, "sk-fake\x00null", "malformed"),
        (OPENAI, "sk-fake\x7f", "malformed"),
        (OPENAI, "sk-f\u0430ke-cyrillic-a", "malformed"),
        (OPENAI, "sk-fake\u2026", "malformed"),
        (OPENAI, "sk-" + "f" * 510, "malformed"),
        (ANTHROPIC, "sk-ant-" + "f" * 506, "malformed"),
        (ANTHROPIC, "not-a-key", "malformed"),
        (OPENAI, "sk-admin-fake", "wrong_kind"),
        (ANTHROPIC, "sk-ant-admin01-fake", "wrong_kind"),
        (OPENAI, "sk-ant-admin01-fake", "wrong_kind"),
        (ANTHROPIC, "sk-admin-fake", "wrong_kind"),
        (OPENAI, "sk-ant-api03-fake", "wrong_provider"),
        (ANTHROPIC, "sk-proj-fake", "wrong_provider"),
        (ANTHROPIC, "sk-fake", "wrong_provider"),
    ],
)
def test_a_key_of_the_wrong_shape_is_refused_with_its_reason(
    provider: Provider, pasted: str, problem: str
) -> None:
    assert check_shape(provider, pasted) == ShapeProblem(problem)


@pytest.mark.parametrize(
    ("provider", "key"),
    [
        (OPENAI, "sk-fake"),
        (OPENAI, "sk-proj-fake_with-both"),
        (OPENAI, "sk-svcacct-fake"),
        (OPENAI, "sk-None-fake"),
        (OPENAI, "sk-anthology-is-not-anthropic"),
        (OPENAI, "sk-administrator-is-no-admin-key"),
        (OPENAI, "sk-some.future+format/with=signs"),
        (OPENAI, "sk-" + "f" * 509),
        (ANTHROPIC, "sk-ant-api03-fake"),
        (ANTHROPIC, "sk-ant-some.future~format"),
    ],
)
def test_what_lies_behind_the_prefix_is_never_a_reason_to_refuse(
    provider: Provider, key: str
) -> None:
    checked = check_shape(provider, key)
    assert isinstance(checked, SecretStr)
    assert checked.get_secret_value() == key


@given(
    body=key_bodies,
    before=st.text(BLANKS, max_size=5),
    after=st.text(BLANKS, max_size=5),
)
def test_blanks_of_any_script_around_a_key_are_trimmed(body: str, before: str, after: str) -> None:
    checked = check_shape(ANTHROPIC, f"{before}sk-ant-api03-{body}{after}")
    assert isinstance(checked, SecretStr)
    assert checked.get_secret_value() == f"sk-ant-api03-{body}"


@given(pasted=st.text(max_size=600))
def test_whatever_is_pasted_gives_a_key_or_a_reason(pasted: str) -> None:
    for provider in Provider:
        checked = check_shape(provider, pasted)
        if isinstance(checked, SecretStr):
            key = checked.get_secret_value()
            assert key.startswith("sk-")
            assert key.isascii()
            assert key.isprintable()
            assert " " not in key
            assert len(key) <= 512


def test_a_checked_key_does_not_show_itself() -> None:
    checked = check_shape(OPENAI, "sk-proj-fake-never-shown")
    assert "never-shown" not in f"{checked!r} {checked}"
