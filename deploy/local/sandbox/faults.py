"""How a provider fails, and when: by the key's name, or by rules set on the control endpoint.

A key that contains `sandbox-<fault>` has that fault on every call of it. A rule is set by
`POST /_sandbox/faults`. For one call the first of these decides: a rule for its key, a rule for
everybody, the key's name. Among rules, those with a `count` come first, oldest first, so that a
sequence can be scripted; a rule without a `count` replaces an earlier one of the same target.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy.local.sandbox.exchange import Call, Endpoint, ProviderName

_ALL: frozenset[Endpoint] = frozenset(get_args(Endpoint))
_CALLS: frozenset[Endpoint] = frozenset({"completion", "count_tokens"})
_COMPLETION: frozenset[Endpoint] = frozenset({"completion"})

ERRORS: dict[str, frozenset[Endpoint]] = {
    **dict.fromkeys(("invalid", "revoked", "deactivated", "restrictedall", "ip", "region"), _ALL),
    **dict.fromkeys(("error500", "error502", "error503", "error504", "overloaded"), _ALL),
    **dict.fromkeys(("nomodel", "noquota", "billing", "spendlimit"), _CALLS),
    "ratelimited": _ALL,
    "restricted": frozenset({"models"}),
    "toolong": _COMPLETION,
}
"""Faults that are an error reply of the provider, and the endpoints that they are seen on."""

BROKEN = frozenset({"hang", "reset", "malformed", "html"})
"""Faults below the API: no reply, or one that is not the API's. They are not billed."""

BILLED = frozenset({"bill-then-drop", "offschema", "refusal", "length", "empty", "obedient"})
"""Faults of an answer that was computed and is billed all the same. `obedient` is one that follows
the instructions that it finds in a mail, see `obedient.py`."""

FAULTS: dict[str, frozenset[Endpoint]] = {
    **ERRORS,
    **dict.fromkeys(BROKEN, _ALL),
    **dict.fromkeys(BILLED, _COMPLETION),
    "none": _ALL,
}
"""Every fault by name. `none` is no fault: it heals a key, or carries a latency."""

# The longest name first, so that `restrictedall` is not read as `restricted`.
_IN_KEY = re.compile("sandbox-(" + "|".join(sorted(FAULTS, key=len, reverse=True)) + ")")


def key_digest(key: str) -> str:
    """SHA-256 of `key` in hex."""
    return sha256(key.encode("utf-8", "replace")).hexdigest()


@dataclass(slots=True, frozen=True)
class Verdict:
    """What befalls one call, `fault` empty for nothing; times in seconds, `None` if not said."""

    fault: str = ""
    latency: float | None = None
    retry_after: float | None = None


class Rule(BaseModel):
    """A fault for the calls that match: the next `count` of them (until cleared where `None`),
    after the first `after`. A `key` is kept as its digest only. Times are in seconds.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    fault: str
    provider: ProviderName | None = None
    key: str | None = None
    endpoint: Endpoint | None = None
    count: int | None = Field(default=None, ge=1)
    after: int = Field(default=0, ge=0)
    latency: float | None = Field(default=None, ge=0)
    retry_after: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _makes_sense(self) -> "Rule":
        if self.fault not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(sorted(FAULTS))}")
        if self.fault in BILLED and self.endpoint not in (None, "completion"):
            raise ValueError(f"{self.fault} is a fault of completions only")
        self.key = None if self.key is None else key_digest(self.key)
        return self

    def matches(self, call: Call) -> bool:
        """Whether this rule is about `call`."""
        places = FAULTS[self.fault] if self.endpoint is None else (self.endpoint,)
        return (
            call.endpoint in places
            and self.provider in (None, call.provider)
            and self.key in (None, call.digest)
        )

    @property
    def target(self) -> tuple[str | None, ...]:
        """Which calls this rule is about."""
        return (self.provider, self.key, self.endpoint)


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Put `rule` in force."""
        if rule.count is None:
            self._rules = [r for r in self._rules if r.count or r.target != rule.target]
        self._rules.append(rule)
        self._rules.sort(key=lambda r: (r.key is None, r.count is None))

    def clear(self) -> None:
        """Drop every rule; keys keep the faults that their names say."""
        self._rules.clear()

    def choose(self, call: Call) -> Verdict:
        """What befalls `call`. Uses up one call of the rule that decides."""
        latency = None
        rule = self._deciding(call) if self._rules else None
        if rule is not None:
            if rule.fault != "none":
                return Verdict(rule.fault, rule.latency, rule.retry_after)
            if rule.key is not None:
                return Verdict("", rule.latency)
            # "none" for everybody sets a latency; it does not heal keys that fail by name.
            latency = rule.latency
        named = _IN_KEY.search(call.key)
        if named is None or named[1] == "none" or call.endpoint not in FAULTS[named[1]]:
            return Verdict("", latency)
        return Verdict(named[1], latency)

    def _deciding(self, call: Call) -> Rule | None:
        deciding = None
        for rule in self._rules:
            if not rule.matches(call):
                continue
            if rule.after > 0:
                rule.after -= 1
            elif deciding is None:
                deciding = rule
        if deciding is not None and deciding.count is not None:
            deciding.count -= 1
            if deciding.count == 0:
                self._rules = [rule for rule in self._rules if rule is not deciding]
        return deciding
