"""Permits: a lease on one call with one key, shared by all workers through Redis.

The key's limit on calls under way adapts (twice as many each round until it meets its first rate
limit, then one more for each round without trouble; half of it at a rate limit), and its
provider's own headers pause it. Of a key that many accounts use, one account has a share. One
breaker per provider is opened where calls of any key find the provider down; after a while one
call probes, and the others wait.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import redis
import structlog

from events.keys import Provider
from store.analyses import ACCOUNT_BUSY, KEY_BUSY
from workers.providers.port import Answer, Failure, Limits, OutcomeClass

log = structlog.get_logger(__name__)

_PROVIDERS = tuple(provider.value for provider in Provider)
_HERE = Path(__file__).parent

LEASE_MS = 75_000
"""A permit is nobody's after this: longer than the longest call, 60 s. So a killed worker leaks it
for no longer."""

FIRST_LIMIT = 16
LARGEST_LIMIT = 512
BREAKER_FAILURES = 10
"""How many more calls found the provider down than found it up when the breaker opens."""

BREAKER_OPEN_MS = 2_000
BREAKER_LONGEST_MS = 30_000
OUT_KNOWN_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 3600.0
"""What a provider asks us to wait is believed up to this."""

LARGEST_SHARE = 0.75
"""One account may have this part of the calls that a key of many accounts bears."""

BUSY_SECONDS = 2.0
"""A request that found its key busy is looked at again after this, should nobody have waked it."""

SHARED_BUSY_SECONDS = 0.5
"""The same where the key is of many accounts: then it may be others' calls that make room, and they
wake nobody else's requests."""

UNPACED_ROOM = 1_000_000


class Result(StrEnum):
    """How a call ended, as far as pacing is concerned."""

    OK = "ok"
    LIMITED = "limited"
    DOWN = "down"
    OTHER = "other"
    UNSENT = "unsent"
    """No call was made, or nobody knows how it ended."""


class Turn(StrEnum):
    """What a call did to its provider's breaker."""

    OPENED = "opened"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Permit:
    """A call that may be made."""

    provider: str
    scope: str
    holder: str
    account: str | None = None
    """Whose share of the key it is from, where the key is of many accounts."""
    probe: bool = False
    paced: bool = True
    room: int = 0
    """How many more calls this caller might have made with the key."""


@dataclass(frozen=True, slots=True)
class Hold:
    """No call now: why, and for how many seconds."""

    reason: str
    seconds: float


def holder_of(account: str, request_id: str, attempt: int) -> str:
    """The name under which an attempt holds its permit."""
    return f"{account}/{request_id}/{attempt}"


class Gate:
    """Gives permits. `client` is Redis; while it is away everything is let through."""

    def __init__(
        self, client: redis.Redis, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        self._known_out: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
        self._enter = client.register_script((_HERE / "enter.lua").read_text())
        self._leave = client.register_script((_HERE / "leave.lua").read_text())

    def enter(
        self, provider: str, scope: str, holder: str, account: str | None = None
    ) -> Permit | Hold:
        """Ask to call `provider` with the key that `scope` names, as `holder` (one per attempt).

        `account` is whose call it is, where the key is of many accounts.
        """
        try:
            what, number = self._enter(
                keys=_keys(provider, scope, account),
                args=[
                    *(holder, LEASE_MS, FIRST_LIMIT, LARGEST_SHARE),
                    *(_longest_open_ms(), int(LONGEST_PAUSE_SECONDS * 1000)),
                ],
            )
        except redis.RedisError as error:
            log.warning("unpaced", error=type(error).__name__)
            return Permit(provider, scope, holder, paced=False, room=UNPACED_ROOM)
        match what.decode():
            case "ok" | "probe" as given:
                probe = given == "probe"
                # A probe goes alone, whatever room there is.
                room = 0 if probe else number
                return Permit(provider, scope, holder, account, probe=probe, room=room)
            case "open":
                return Hold("provider_unavailable", number / 1000)
            case "paused":
                return Hold("rate_limited", number / 1000)
            case "share":
                return Hold(ACCOUNT_BUSY, BUSY_SECONDS)
            case _:
                return Hold(KEY_BUSY, SHARED_BUSY_SECONDS if account else BUSY_SECONDS)

    def out(self) -> frozenset[str]:
        """The providers that are in an outage, as known within `OUT_KNOWN_SECONDS`."""
        asked, known = self._known_out
        if self._monotonic() - asked > OUT_KNOWN_SECONDS:
            known = self._ask_out()
            self._known_out = (self._monotonic(), known)
        return known

    def _ask_out(self) -> frozenset[str]:
        try:
            seconds, micros = self._client.time()
            now = seconds * 1000 + micros // 1000
            until = {name: self._client.hget(_breaker(name), "open_until") for name in _PROVIDERS}
        except redis.RedisError:
            return frozenset()
        latest = now + _longest_open_ms()
        return frozenset(
            name for name, at in until.items() if at is not None and now < int(at) <= latest
        )

    def breakers(self) -> dict[str, str]:
        """By provider: whether its breaker is `closed`, `open`, or `probing` with one call.

        Raises `redis.RedisError`.
        """
        seconds, micros = self._client.time()
        now = seconds * 1000 + micros // 1000
        states = {}
        for name in _PROVIDERS:
            open_until = self._client.hget(_breaker(name), "open_until")
            if open_until is None:
                states[name] = "closed"
            else:
                states[name] = "open" if int(open_until) > now else "probing"
        return states

    def leave(self, permit: Permit, result: Result, pause_seconds: float = 0.0) -> Turn | None:
        """Give a permit back; what that did to the breaker."""
        if not permit.paced:
            return None
        try:
            turned = self._leave(
                keys=_keys(permit.provider, permit.scope, permit.account),
                args=[
                    *(permit.holder, result.value, int(pause_seconds * 1000), int(permit.probe)),
                    *(FIRST_LIMIT, LARGEST_LIMIT),
                    *(BREAKER_FAILURES, BREAKER_OPEN_MS, BREAKER_LONGEST_MS),
                ],
            )
        except redis.RedisError as error:
            log.warning("permit_left_to_expire", error=type(error).__name__)
            return None
        return Turn(turned.decode()) if turned else None


def result_of(outcome: Answer | Failure) -> tuple[Result, float]:
    """What pacing learns from a call: how it ended, and for how long (s) the key is to pause."""
    if isinstance(outcome, Answer):
        return Result.OK, _used_up(outcome.limits)
    match outcome.kind:
        case OutcomeClass.RATE_LIMITED:
            asked = outcome.retry_after or _used_up(outcome.limits)
            return Result.LIMITED, min(asked, LONGEST_PAUSE_SECONDS)
        case OutcomeClass.UNAVAILABLE:
            return Result.DOWN, 0.0
        case OutcomeClass.BAD_ANSWER:
            return Result.OK, 0.0
        case _:
            return Result.OTHER, 0.0


def _used_up(limits: Limits) -> float:
    """Seconds until a limit that is used up is reset; 0 where none is."""
    resets = [
        reset
        for remaining, reset in (
            (limits.remaining_requests, limits.reset_requests),
            (limits.remaining_tokens, limits.reset_tokens),
        )
        if remaining == 0 and reset is not None
    ]
    return min(max(resets, default=0.0), LONGEST_PAUSE_SECONDS)


def _longest_open_ms() -> int:
    return max(BREAKER_OPEN_MS, BREAKER_LONGEST_MS)


def _keys(provider: str, scope: str, account: str | None) -> list[str]:
    held = f"byok:permits:{scope}"
    mine = [f"{held}:{account}"] if account else []
    return [held, f"byok:limit:{scope}", _breaker(provider), *mine]


def _breaker(provider: str) -> str:
    return f"byok:breaker:{provider}"
