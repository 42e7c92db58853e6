"""What a call costs: exact where the price is known, nothing where it is not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import Provider
from workers.pricing import PRICE_VERSION, Price, dearest_price, price_of
from workers.providers.port import Tokens

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC
NOW = 1_767_268_800_000
UNKNOWN = Price(0, priced=False)

GPT, CLAUDE = "gpt-4o", "claude-sonnet-4-5"


def price(provider: Provider, model: str, **tokens: int) -> Price:
    return price_of(provider, model, Tokens(**tokens), NOW)


def test_a_known_model_costs_what_its_provider_asks() -> None:
    # 2.50 and 10 dollars a million tokens.
    assert price(OPENAI, GPT, input=1_000, output=100) == Price(3_500_000, priced=True)
    # 3 and 15 dollars a million tokens.
    assert price(ANTHROPIC, CLAUDE, input=1_000, output=100) == Price(4_500_000, priced=True)


@pytest.mark.parametrize(
    ("provider", "dated", "plain"),
    [
        (OPENAI, "gpt-4o-2024-08-06", "gpt-4o"),
        (OPENAI, "gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        (ANTHROPIC, "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        (ANTHROPIC, "claude-haiku-5-5-20260101", "claude-haiku-5-5"),
    ],
)
def test_a_dated_model_costs_what_the_model_costs(
    provider: Provider, dated: str, plain: str
) -> None:
    found = price(provider, dated, input=10_000, output=1_000)
    assert found == price(provider, plain, input=10_000, output=1_000)
    assert found.priced
    assert found.nano_usd > 0


def test_what_is_read_from_a_cache_is_part_of_the_input_and_costs_less() -> None:
    # Half the price at OpenAI, a tenth at Anthropic.
    assert price(OPENAI, GPT, input=1_000, cached_read=800) == Price(1_500_000, priced=True)
    assert price(ANTHROPIC, CLAUDE, input=1_000, cached_read=800) == Price(840_000, priced=True)


def test_what_is_written_to_a_cache_costs_more() -> None:
    assert price(ANTHROPIC, CLAUDE, input=1_000, cache_write=800) == Price(3_600_000, priced=True)


@pytest.mark.parametrize(
    ("provider", "model", "most", "below", "above"),
    [
        # Above 200,000 tokens of input the whole input is dearer, and the output too.
        (ANTHROPIC, CLAUDE, 200_000, 615_000_000, 1_222_506_000),
        (OPENAI, "gpt-5.4", 272_000, 695_000_000, 1_382_505_000),
    ],
)
def test_a_long_input_costs_what_its_tier_asks(
    provider: Provider, model: str, most: int, below: int, above: int
) -> None:
    assert price(provider, model, input=most, output=1_000) == Price(below, priced=True)
    assert price(provider, model, input=most + 1, output=1_000) == Price(above, priced=True)


@settings(max_examples=60, deadline=None)
@given(
    most=st.integers(0, 400_000),
    share=st.floats(0, 1),
    cached=st.floats(0, 1),
    written=st.booleans(),
    known=st.sampled_from([(OPENAI, GPT), (OPENAI, "gpt-5.4"), (ANTHROPIC, CLAUDE)]),
)
def test_no_call_costs_more_than_its_dearest_outcome(
    most: int, share: float, cached: float, written: bool, known: tuple[Provider, str]
) -> None:
    provider, model = known
    used, kept = int(most * share), int(most * share * cached)
    tokens = {"cache_write": kept} if written else {"cached_read": kept}
    cost = price(provider, model, input=used, output=used // 4, **tokens).nano_usd
    assert cost <= dearest_price(provider, model, most, most // 4, NOW)


def test_thinking_is_part_of_the_output() -> None:
    with_thinking = price(OPENAI, GPT, output=100, reasoning=90)
    assert with_thinking == price(OPENAI, GPT, output=100)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        (OPENAI, "gpt-unit-1"),
        (OPENAI, ""),
        (OPENAI, CLAUDE),
        (ANTHROPIC, GPT),
        (ANTHROPIC, "none"),
        (ANTHROPIC, "a" * 100),
    ],
)
def test_a_model_without_a_known_price_costs_nothing_and_says_so(
    provider: Provider, model: str
) -> None:
    assert price(provider, model, input=10**6, output=10**6) == UNKNOWN


def test_nothing_costs_nothing_and_is_no_unknown_price() -> None:
    assert price(OPENAI, GPT) == Price(0, priced=True)


@pytest.mark.parametrize(
    "tokens",
    [{"input": 5, "cached_read": 10}, {"input": 5, "cached_read": 4, "cache_write": 4}],
)
def test_counts_that_contradict_each_other_have_no_price(tokens: dict[str, int]) -> None:
    # A provider's word that makes no sense must not lose the call that it billed.
    assert price(ANTHROPIC, CLAUDE, **tokens) == UNKNOWN


def test_a_price_is_an_exact_whole_number_of_nano_dollars() -> None:
    for tokens in (1, 3, 7, 333, 10**12):
        found = price(OPENAI, GPT, input=tokens)
        assert type(found.nano_usd) is int
        assert found.nano_usd == tokens * 2_500


def test_the_table_of_prices_is_named() -> None:
    assert PRICE_VERSION.startswith("genai-prices ")
    assert len(PRICE_VERSION) <= 64


@settings(max_examples=60)
@given(
    read=st.integers(0, 10**6),
    written=st.integers(0, 10**6),
    plain=st.integers(0, 10**6),
    output=st.integers(0, 10**6),
    known=st.sampled_from([(OPENAI, GPT), (ANTHROPIC, CLAUDE)]),
)
def test_whatever_was_counted_the_price_is_between_free_and_no_cache(
    read: int, written: int, plain: int, output: int, known: tuple[Provider, str]
) -> None:
    provider, model = known
    total = read + written + plain
    found = price(
        provider, model, input=total, cached_read=read, cache_write=written, output=output
    )
    uncached = price(provider, model, input=total, output=output).nano_usd
    assert found.priced
    # A cache write is a quarter dearer at most.
    assert 0 <= found.nano_usd <= uncached * 5 // 4 + 1
