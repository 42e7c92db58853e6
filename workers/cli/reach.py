"""Whether a provider can be reached, and whether the platform's key works there."""

from dataclasses import dataclass
from enum import Enum, auto

from pydantic import SecretStr

from events import Provider
from workers.app import App
from workers.providers.port import Failure, OutcomeClass

NOBODYS_KEY = {
    Provider.OPENAI: "sk-proj-nobodys-key-to-see-whether-anybody-answers",
    Provider.ANTHROPIC: "sk-ant-api03-nobodys-key-to-see-whether-anybody-answers",
}
"""What is asked with where the platform has no key: a refusal is an answer, too."""


class Reached(Enum):
    """How far a question to a provider came."""

    NO_ANSWER = auto()
    ANSWERS = auto()
    KEY_REFUSED = auto()
    KEY_WORKS = auto()


@dataclass(frozen=True, slots=True)
class Reach:
    """What came of it: where was asked, and the code of what went wrong."""

    reached: Reached
    where: str
    told: str = ""


def reach(app: App, provider: Provider) -> Reach:
    """Ask a provider for its list of models, which costs nothing.

    Raises `ConfigurationError` where its address is not known.
    """
    settings = app.settings
    where = settings.base_url(provider) or "the provider's own endpoint"
    key = settings.platform_key(provider)
    asked = key or SecretStr(NOBODYS_KEY[provider])
    outcome = app.calls.run(
        app.providers[provider].probe(asked, model=settings.model(provider), prove_quota=False)
    )
    # Undecided is a key that may not read the list: what it may do is not asked here.
    if not isinstance(outcome, Failure):
        return Reach(Reached.KEY_WORKS if key else Reached.ANSWERS, where)
    if outcome.kind is OutcomeClass.UNAVAILABLE:
        return Reach(Reached.NO_ANSWER, where, outcome.code)
    if key is None or outcome.kind is OutcomeClass.RATE_LIMITED:
        return Reach(Reached.ANSWERS, where)
    return Reach(Reached.KEY_REFUSED, where, outcome.code)
