"""Which key pays: the product's table, as a pure function.

| the account's key for the provider | platform fallback off (default) | on |
|---|---|---|
| Valid | own key | own key |
| Pending | wait for the verdict, at most 10 min, then fail `key_pending` | wait, then platform |
| Invalid | fail `key_invalid` | platform |
| no quota | fail `key_no_quota` | platform |
| plan without BYOK | platform, reason `plan` | platform, reason `plan` |
| none, or removed | platform | - |
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from events import KeyStatus, Provider, ProviderChoice

PENDING_LIMIT_MS = 10 * 60 * 1000
"""How long a request waits for the verdict on a Pending key."""

NO_QUOTA = "no_quota"

_NAMED: tuple[tuple[tuple[str, ...], ProviderChoice], ...] = (
    (("claude",), ProviderChoice.ANTHROPIC),
    (("gpt-", "chatgpt-", "o1", "o3", "o4", "ft:"), ProviderChoice.OPENAI),
)
"""How the providers name their models, by their lists of models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKey:
    """What the table needs to know of an account's key.

    `in_doubt_ms` is since when a key that an analysis saw refused is being validated anew, or
    `None`.
    """

    key_id: str
    status: KeyStatus
    reason: str
    in_doubt_ms: int | None
    allow_platform_fallback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the decision depends on.

    `waited_ms` is since the request was accepted, `out` are the providers in an outage, `paused`
    those that an operator has paused, and `resumed_ms` is since when others no longer are.
    """

    choice: ProviderChoice
    plan_includes_byok: bool
    own: Mapping[Provider, OwnKey]
    platform: Sequence[Provider]
    waited_ms: int
    out: Collection[Provider] = ()
    paused: Collection[Provider] = ()
    resumed_ms: Mapping[Provider, int] = field(default_factory=dict)

    @property
    def avoided(self) -> Collection[Provider]:
        """The providers that are not called if another will do."""
        return {*self.out, *self.paused}


@dataclass(frozen=True, slots=True)
class UseOwn:
    """The account's key pays."""

    provider: Provider
    key_id: str


@dataclass(frozen=True, slots=True)
class UsePlatform:
    """The platform pays: one credit. `fallback` says why the account's own key does not."""

    provider: Provider
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class AwaitVerdict:
    """The key is being validated: wait for the verdict, at most `for_ms`."""

    key_id: str
    for_ms: int


@dataclass(frozen=True, slots=True)
class AwaitResumption:
    """The provider that would be asked is paused: wait until it no longer is."""

    provider: Provider


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody pays; the request fails with this reason."""

    reason: str


Decision = UseOwn | UsePlatform | AwaitVerdict | AwaitResumption | Refuse


def choice_of(wanted: ProviderChoice, model: str | None) -> ProviderChoice:
    """Whom a request leaves the choice to: `auto` with a model can only mean who has that model.

    A model whose name tells nothing leaves it open.
    """
    if wanted is not ProviderChoice.AUTO or model is None:
        return wanted
    for prefixes, provider in _NAMED:
        if model.lower().startswith(prefixes):
            return provider
    return wanted


def decide(situation: Situation) -> Decision:
    """Apply the table. What would call a paused provider waits; what calls none is not held up."""
    decision = _by_table(situation)
    provider = _asked(situation, decision)
    if provider is not None and provider in situation.paused:
        return AwaitResumption(provider)
    return decision


def _asked(situation: Situation, decision: Decision) -> Provider | None:
    match decision:
        case UseOwn(provider) | UsePlatform(provider):
            return provider
        case AwaitVerdict(key_id):
            own = situation.own.items()
            return next(provider for provider, key in own if key.key_id == key_id)
        case _:
            return None


def _by_table(situation: Situation) -> Decision:
    if situation.choice is not ProviderChoice.AUTO:
        return _row(situation, Provider(situation.choice.value))
    if not situation.plan_includes_byok or not situation.own:
        return _any_platform(situation, "plan" if situation.own else None)
    rows = [_row(situation, provider) for provider in Provider if provider in situation.own]
    working = [row for row in rows if isinstance(row, UseOwn)]
    reachable = [row for row in working if row.provider not in situation.avoided]
    if working and not reachable:
        return _in_outage(situation, working[0])
    # An own key that works comes first, then one that may soon, then one whose owner lets the
    # platform stand in, then the first one's refusal.
    if reachable:
        return reachable[0]
    for kind in (UseOwn, AwaitVerdict, UsePlatform, Refuse):
        for row in rows:
            if isinstance(row, kind):
                return row
    raise AssertionError("every row of the table is one of the four")


def _any_platform(situation: Situation, fallback: str | None) -> Decision:
    """The platform's first provider that is reachable, else its first."""
    reachable = [provider for provider in situation.platform if provider not in situation.avoided]
    order = reachable or situation.platform
    return UsePlatform(order[0], fallback) if order else Refuse("platform_unavailable")


def _in_outage(situation: Situation, own: UseOwn) -> Decision:
    """All own keys that work are of providers in an outage: the platform, only where it may."""
    stand_in = any(provider not in situation.avoided for provider in situation.platform)
    if stand_in and situation.own[own.provider].allow_platform_fallback:
        return _any_platform(situation, "provider_outage")
    return own


def _row(situation: Situation, provider: Provider) -> Decision:
    key = situation.own.get(provider)
    if key is None:
        return _platform(situation, provider, None)
    if not situation.plan_includes_byok:
        return _platform(situation, provider, "plan")
    waited = _waited_ms(situation, provider, key)
    if key.status is KeyStatus.INVALID:
        return _instead(situation, provider, key, "key_invalid")
    if key.status is KeyStatus.VALID and key.in_doubt_ms is None:
        if key.reason != NO_QUOTA:
            return UseOwn(provider, key.key_id)
        return _instead(situation, provider, key, "key_no_quota")
    if waited < PENDING_LIMIT_MS:
        return AwaitVerdict(key.key_id, PENDING_LIMIT_MS - waited)
    return _instead(situation, provider, key, "key_pending")


def _waited_ms(situation: Situation, provider: Provider, key: OwnKey) -> int:
    """How long a verdict on the key was waited for while one could come."""
    if provider in situation.paused:
        return 0
    waited = situation.waited_ms if key.in_doubt_ms is None else key.in_doubt_ms
    return min(waited, situation.resumed_ms.get(provider, waited))


def _instead(situation: Situation, provider: Provider, key: OwnKey, reason: str) -> Decision:
    if key.allow_platform_fallback:
        return _platform(situation, provider, reason)
    return Refuse(reason)


def _platform(situation: Situation, provider: Provider, fallback: str | None) -> Decision:
    if provider not in situation.platform:
        return Refuse("platform_unavailable")
    return UsePlatform(provider, fallback)
