"""What a failed call means for its request: a value, computed from the failure alone."""

from dataclasses import dataclass

from workers.providers.port import Failure, OutcomeClass

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0
PLATFORM_PAUSE_SECONDS = 900.0
BAD_ANSWERS_ALLOWED = 1
REFUSALS_ALLOWED = 3
"""A key that validates and is refused in analyses all the same ends the request after these."""

UNKNOWN_ALLOWED = 5
"""A request whose answer was lost this often is given up: each may have been paid for, and it may
be what kills its workers."""

LONGEST_ASKED_SECONDS = 3600.0
"""What a provider asks us to wait is believed up to this. One known SDK believes weeks."""

PROVIDER_UNAVAILABLE = "provider_unavailable"
MASTER_KEY_UNAVAILABLE = "master_key_unavailable"
"""The code of an attempt that was not sent because the key's master key is missing or away."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after `seconds`; `cooldown` holds the same key's other requests back as long."""

    seconds: float
    reason: str
    cooldown: bool = False


@dataclass(frozen=True, slots=True)
class AgainAfterVerdict:
    """The own key is in doubt: have it validated, and let the table decide again."""

    reason: str


@dataclass(frozen=True, slots=True)
class KeyOutOfQuota:
    """The own key has no quota: note it, and let the table decide again."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The request ends as failed. `retryable`: the same request may work later."""

    reason: str
    retryable: bool


Next = Again | AgainAfterVerdict | KeyOutOfQuota | GiveUp


def decide(
    failure: Failure,
    *,
    own_key: bool,
    setbacks: int,
    refusals: int,
    bad_answers: int,
    unknown: int,
    jitter: float,
) -> Next:
    """What to do after `failure`.

    `setbacks`, of which `refusals` are refusals of the key, and `bad_answers` count what the
    request met before; `unknown` its attempts whose answer was lost, this one included. `jitter`
    is from 0 to 1. There is no limit to setbacks by an outage: a request ends when it expires.
    """
    if unknown >= UNKNOWN_ALLOWED:
        return GiveUp("answer_lost", retryable=True)
    match failure.kind:
        case OutcomeClass.RATE_LIMITED:
            asked = failure.retry_after or _reset(failure) or _pause(setbacks)
            wait = min(asked, LONGEST_ASKED_SECONDS)
            return Again(wait * (1 + 0.2 * jitter), "rate_limited")
        case OutcomeClass.REJECTED | OutcomeClass.RESTRICTED | OutcomeClass.FORBIDDEN:
            if own_key and refusals >= REFUSALS_ALLOWED:
                return GiveUp("key_refused", retryable=True)
            if own_key:
                return AgainAfterVerdict("key_pending")
            return Again(PLATFORM_PAUSE_SECONDS, "platform_key_refused", cooldown=True)
        case OutcomeClass.NO_QUOTA:
            if own_key:
                return KeyOutOfQuota()
            return Again(PLATFORM_PAUSE_SECONDS, "platform_no_quota", cooldown=True)
        case OutcomeClass.BAD_ANSWER:
            if bad_answers < BAD_ANSWERS_ALLOWED:
                return Again(0, "bad_answer")
            return GiveUp("bad_answer", retryable=True)
        case OutcomeClass.BAD_REQUEST:
            return GiveUp("bad_request" if failure.sent else failure.code, retryable=False)
        case OutcomeClass.MODEL_UNAVAILABLE:
            return GiveUp("model_unavailable", retryable=False)
        case _:
            wait = max(_pause(setbacks), min(failure.retry_after or 0, LONGEST_ASKED_SECONDS))
            away = failure.code if failure.code == MASTER_KEY_UNAVAILABLE else PROVIDER_UNAVAILABLE
            return Again(wait * (0.5 + jitter / 2), away)


def pause_after_loss(lost: int, jitter: float) -> float:
    """How many seconds a request waits whose answer was lost with its worker for the `lost`th time.

    The first time none. After that each waits for as long as chance has it (`jitter` is from 0 to
    1): a request that kills its workers would else take the same others with it each time, until
    those are given up, too.
    """
    return 0.0 if lost < 2 else jitter * FIRST_PAUSE_SECONDS * 2.0 ** min(lost, UNKNOWN_ALLOWED)  # noqa: PLR2004 -- the second


def _pause(setbacks: int) -> float:
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(setbacks, 16), LONGEST_PAUSE_SECONDS)


def _reset(failure: Failure) -> float | None:
    """When the limit that is used up is reset; of an answer that does not tell, the sooner one."""
    limits = failure.limits
    both = (
        (limits.remaining_requests, limits.reset_requests),
        (limits.remaining_tokens, limits.reset_tokens),
    )
    used_up = [reset for remaining, reset in both if remaining == 0 and reset is not None]
    told = [reset for _, reset in both if reset is not None]
    return max(used_up) if used_up else min(told, default=None)
