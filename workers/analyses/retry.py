"""What a failed call means for its request: a value, computed from the failure alone."""

from dataclasses import dataclass

from workers.providers.port import Failure, OutcomeClass

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0
PLATFORM_PAUSE_SECONDS = 900.0
BAD_ANSWERS_ALLOWED = 1
REFUSALS_ALLOWED = 3
"""A key that validates and is refused in analyses all the same ends the request after these."""

LOST_WORKERS_ALLOWED = 5
"""A request whose workers died this often is given up: it may be what kills them."""


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
    failure: Failure, *, own_key: bool, setbacks: int, bad_answers: int, jitter: float
) -> Next:
    """What to do after `failure`.

    `setbacks` and `bad_answers` count what the request met before, `jitter` is from 0 to 1.
    There is no limit to setbacks by an outage: a request ends when it expires.
    """
    match failure.kind:
        case OutcomeClass.RATE_LIMITED:
            asked = failure.retry_after or _reset(failure) or _pause(setbacks)
            return Again(asked * (1 + 0.2 * jitter), "rate_limited", cooldown=True)
        case OutcomeClass.REJECTED | OutcomeClass.RESTRICTED | OutcomeClass.FORBIDDEN:
            if own_key and setbacks >= REFUSALS_ALLOWED:
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
            wait = max(_pause(setbacks), failure.retry_after or 0)
            return Again(wait * (0.5 + jitter / 2), "provider_unavailable")


def _pause(setbacks: int) -> float:
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(setbacks, 16), LONGEST_PAUSE_SECONDS)


def _reset(failure: Failure) -> float | None:
    limits = failure.limits
    known = [value for value in (limits.reset_requests, limits.reset_tokens) if value is not None]
    return max(known, default=None)
