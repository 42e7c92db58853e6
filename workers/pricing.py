"""What a call costs, by the price table of the package `genai-prices`, offline.

A model without a known price costs 0 and is marked as not priced: never a guess.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from importlib.metadata import version

from events.keys import Provider
from store.accounts import NANO
from workers.providers.port import Tokens

PRICE_VERSION = f"genai-prices {version('genai-prices')}"


@dataclass(frozen=True, slots=True)
class Price:
    """A cost in nano-dollars, and whether the model's price was known."""

    nano_usd: int
    priced: bool


def dearest_price(
    provider: Provider, model: str, input_tokens: int, output_tokens: int, at_ms: int
) -> int:
    """The most that a call of at most so many tokens can cost, in nano-dollars."""
    plain = Tokens(input=input_tokens, output=output_tokens)
    # What is written to a cache is dearer than what is not, at a provider that charges for it.
    written = Tokens(input=input_tokens, cache_write=input_tokens, output=output_tokens)
    return max(price_of(provider, model, tokens, at_ms).nano_usd for tokens in (plain, written))


def price_of(provider: Provider, model: str, tokens: Tokens, at_ms: int) -> Price:
    """The price of one call at `at_ms` (Unix ms).

    Counts that contradict each other (more read from the cache than there was input) have none.
    """
    # Loading the price table takes 0.1 s, which is for those who price a call to pay.
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    usage = Usage(
        # The package counts cached tokens as part of the input, as we do.
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached_read,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )
    try:
        price = calc_price(
            usage,
            model_ref=model,
            provider_id=provider.value,
            genai_request_timestamp=datetime.fromtimestamp(at_ms / 1000, tz=UTC),
        )
    except (LookupError, ValueError):
        return Price(0, priced=False)
    nano = (Decimal(price.total_price) * NANO).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    return Price(int(nano), priced=True)


@lru_cache(maxsize=256)
def listed_model(provider: Provider, model: str) -> str:
    """The price table's own name of a model, whatever its snapshot; else its name as it came."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 -- as above

    try:
        _, listed = get_snapshot().find_provider_model(model, None, provider.value, None)
    except (LookupError, ValueError):
        return model
    return str(listed.id)


def priced_models() -> frozenset[str]:
    """The price table's own names of the models that it knows of our providers."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 -- as above

    return frozenset(
        model.id
        for listed in get_snapshot().providers
        if listed.id in frozenset(Provider)
        for model in listed.models
    )
