"""What a provider's answer means, and what that says of the key. Pure: facts in, meaning out.

The table is under "What an answer means" in `docs/providers.md`. A provider's message is looked at
here, in memory, where its code does not tell enough, and goes no further: it can hold a piece of
the key (a 401 quotes one) or of the mail.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

from events.keys import KeyStatus, Provider
from workers.providers import codes
from workers.providers.codes import Code, Reason
from workers.providers.port import Answer, Failure, OutcomeClass, Proof


class Trouble(StrEnum):
    """Why there is no answer to read: what became of the connection or of the body."""

    CONNECT = Code.CONNECT_ERROR
    TLS = Code.TLS_ERROR
    TIMEOUT = Code.TIMEOUT
    LOST = Code.CONNECTION_LOST
    MALFORMED = Code.MALFORMED
    UNEXPECTED = Code.UNEXPECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An answer that is not a success, or the trouble that came in place of one.

    `code` is OpenAI's `error.code`, Anthropic's `error.details.error_code`; `type` is `error.type`
    of either. `model` is the one that the call named, where it named one. `readable` says that the
    body is a JSON object, as both providers' errors are: a page of a proxy or a firewall on the
    way is not, whatever its status.
    """

    provider: Provider
    status: int | None = None
    code: str | None = None
    type: str | None = None
    message: str = field(default="", repr=False)
    model: str | None = None
    readable: bool = True
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Meaning:
    """What was seen, in our words."""

    kind: OutcomeClass
    code: Code


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a key's status and reason become. `reason` is a `Reason`, or the one it had before."""

    status: KeyStatus
    reason: str


_PASSING = {
    407: Code.CONNECT_ERROR,
    408: Code.TIMEOUT,
    409: Code.CONFLICT,
    425: Code.CONFLICT,
    499: Code.TIMEOUT,
}
"""Statuses below 500 that say nothing of the key or of the request: they pass."""

_OF_SERVERS = {503: Code.OVERLOADED, 504: Code.TIMEOUT, 529: Code.OVERLOADED}
"""Statuses from 500 on that tell more than `server_error`."""

_LOOKED_AT = 2_000
"""Characters of a message that are looked at; a provider's sentences are shorter."""

_SCOPES = re.compile(r"\b(missing|required) scopes?\b|\bscope requirement", re.IGNORECASE)
_PERMISSION = re.compile(r"\bpermissions?\b|\brestricted (api )?key", re.IGNORECASE)
# "IP" in capitals beside a word of refusal: `ip` alone could stand in a quoted piece of a key.
_IP = re.compile(r"\bIP\b.*(authoriz|allow|permit|block|match)|allow-?list.*\bIP\b", re.DOTALL)
_REGION = re.compile(r"\b(country|region|territory)\b|^request not allowed", re.IGNORECASE)
_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)
_TOLD_OF_KEY = (
    (re.compile(r"\brevoked\b|\bdeleted\b", re.IGNORECASE), Code.REVOKED),
    (re.compile(r"\b(deactivated|disabled|suspended)\b", re.IGNORECASE), Code.DEACTIVATED),
    (re.compile(r"\bexpired\b", re.IGNORECASE), Code.EXPIRED),
)
# Anchored, since a 400 may quote the request and so the mail: its text must not condemn a key.
_ORGANIZATION_OFF = re.compile(
    r"(this|your) (organization|account) (has been|is) (disabled|deactivated)", re.IGNORECASE
)
_NO_CREDIT = re.compile(r"your credit balance is too low", re.IGNORECASE)
_USAGE_LIMIT = re.compile(
    r"you have reached your specified (workspace )?api usage limits", re.IGNORECASE
)
_TOO_LONG = re.compile(
    r"^(prompt|input) is too long|exceeds? (the )?context|maximum context length", re.IGNORECASE
)
_OUTPUT_LIMIT = re.compile(r"max_tokens or model output limit was reached", re.IGNORECASE)


def classify(seen: Seen) -> Meaning:
    """Tell what `seen` means. The status decides first: no code turns a 429 or a 5xx into a no."""
    status = seen.status
    if seen.trouble is not None or status is None:
        return Meaning(OutcomeClass.UNAVAILABLE, Code(seen.trouble or Trouble.UNEXPECTED))
    if status in _PASSING:
        return Meaning(OutcomeClass.UNAVAILABLE, _PASSING[status])
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _server_failed(seen)
    if status < HTTPStatus.BAD_REQUEST:
        moved = status >= HTTPStatus.MULTIPLE_CHOICES
        return Meaning(OutcomeClass.UNAVAILABLE, Code.REDIRECT if moved else Code.MALFORMED)
    if not seen.readable and status not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.NOT_FOUND):
        return Meaning(OutcomeClass.UNAVAILABLE, Code.MALFORMED)
    return _BY_STATUS.get(status, _bad_request)(seen)


def judge(
    kind: OutcomeClass, code: str, *, status: KeyStatus, reason: str, quota_shown: bool = True
) -> Verdict:
    """Tell what a key with `status` and `reason` becomes after an outcome of class `kind`.

    `quota_shown` is false for a success that cost nothing (the list of models): it shows that the
    key is accepted, and leaves a reason `no_quota` standing. A removed key stays removed.
    """
    unchanged = Verdict(status, reason)
    if status is KeyStatus.REMOVED:
        return unchanged
    match kind:
        case OutcomeClass.OK:
            empty = status is KeyStatus.VALID and reason == Reason.NO_QUOTA
            return unchanged if empty and not quota_shown else Verdict(KeyStatus.VALID, Reason.OK)
        case OutcomeClass.NO_QUOTA:
            return Verdict(KeyStatus.VALID, Reason.NO_QUOTA)
        case _:
            why = _condemned(kind, code)
            return unchanged if why is None else Verdict(KeyStatus.INVALID, why)


def judge_outcome(outcome: Answer | Failure | Proof, *, status: KeyStatus, reason: str) -> Verdict:
    """`judge` for what `ask` or `probe` gave."""
    if isinstance(outcome, Failure):
        return judge(outcome.kind, outcome.code, status=status, reason=reason)
    shown = not (isinstance(outcome, Proof) and outcome.stage == 1)
    return judge(OutcomeClass.OK, "", status=status, reason=reason, quota_shown=shown)


def _condemned(kind: OutcomeClass, code: str) -> Reason | None:
    """Why a key can no longer be used, or `None` where nothing says so."""
    match kind:
        case OutcomeClass.REJECTED:
            return _TOLD.get(code, Reason.REJECTED)
        case OutcomeClass.FORBIDDEN:
            return Reason.REGION if code == Code.REGION else Reason.IP_NOT_ALLOWED
        case OutcomeClass.RESTRICTED if code == Code.RESTRICTED:
            return Reason.RESTRICTED
        case _:
            return None


_TOLD: dict[str, Reason] = {Code.REVOKED: Reason.REVOKED, Code.DEACTIVATED: Reason.DEACTIVATED}


def _says(seen: Seen, pattern: re.Pattern[str]) -> bool:
    return pattern.search(seen.message[:_LOOKED_AT]) is not None


def _opens_with(seen: Seen, pattern: re.Pattern[str]) -> bool:
    return pattern.match(seen.message[:_LOOKED_AT]) is not None


def _known(known: dict[str, Code], code: str | None, default: Code) -> Code:
    """`code` in our words; `default` where the provider gave none, `other` where it is unknown."""
    return default if code is None else known.get(code, Code.OTHER)


def _server_failed(seen: Seen) -> Meaning:
    default = _OF_SERVERS.get(seen.status or 0, Code.SERVER_ERROR)
    by_type = codes.UNAVAILABLE.get(seen.type or "", default)
    code = _known(codes.UNAVAILABLE, seen.code, by_type)
    return Meaning(OutcomeClass.UNAVAILABLE, default if code is Code.SERVER_ERROR else code)


def _unauthorised(seen: Seen) -> Meaning:
    return _not_from_here(seen) or _rights_missing(seen) or _rejected(seen)


def _unpaid(seen: Seen) -> Meaning:
    return _no_quota(seen) or Meaning(
        OutcomeClass.NO_QUOTA, _known(codes.QUOTA, seen.code, Code.BILLING_ERROR)
    )


def _denied(seen: Seen) -> Meaning:
    return (
        _not_from_here(seen)
        or _no_quota(seen)
        or _key_off(seen)
        # Scopes before models: OpenAI's names of scopes hold the word ("model.request").
        or _scope_missing(seen)
        or _model_refused(seen)
        or _region_refused(seen)
        or _rights_missing(seen)
        or Meaning(
            OutcomeClass.RESTRICTED,
            _known(codes.RESTRICTED, seen.code, Code.PERMISSION_DENIED),
        )
    )


def _not_found(seen: Seen) -> Meaning:
    return _model_refused(seen) or Meaning(OutcomeClass.UNAVAILABLE, Code.NOT_FOUND)


def _too_many(seen: Seen) -> Meaning:
    # The code first: OpenAI's type stays `insufficient_quota` for every billing stop, whatever the
    # code, so it speaks only where the code says nothing that is known.
    if seen.code in codes.RATE:
        return Meaning(OutcomeClass.RATE_LIMITED, codes.RATE[seen.code])
    return _no_quota(seen) or Meaning(
        OutcomeClass.RATE_LIMITED, _known(codes.RATE, seen.code, Code.RATE_LIMIT_EXCEEDED)
    )


def _bad_request(seen: Seen) -> Meaning:
    return (
        _no_quota(seen)
        or _credit_too_low(seen)
        # Anthropic answers 400, not 401, to every key of an organization that it has disabled.
        or _key_off(seen)
        or _model_named(seen)
        or _ran_out_of_tokens(seen)
        or _request_wrong(seen)
    )


_BY_STATUS: dict[int, Callable[[Seen], Meaning]] = {
    HTTPStatus.UNAUTHORIZED: _unauthorised,
    HTTPStatus.PAYMENT_REQUIRED: _unpaid,
    HTTPStatus.FORBIDDEN: _denied,
    HTTPStatus.NOT_FOUND: _not_found,
    HTTPStatus.TOO_MANY_REQUESTS: _too_many,
}


def _no_quota(seen: Seen) -> Meaning | None:
    """A billing stop by its code, else by its type."""
    if seen.code in codes.QUOTA:
        return Meaning(OutcomeClass.NO_QUOTA, codes.QUOTA[seen.code])
    if seen.type in codes.QUOTA:
        return Meaning(OutcomeClass.NO_QUOTA, Code.OTHER if seen.code else codes.QUOTA[seen.type])
    return None


def _credit_too_low(seen: Seen) -> Meaning | None:
    """Anthropic's billing stops that come as an invalid request, told by their sentence alone."""
    if _opens_with(seen, _NO_CREDIT):
        return Meaning(OutcomeClass.NO_QUOTA, Code.CREDIT_BALANCE_EXHAUSTED)
    if _opens_with(seen, _USAGE_LIMIT):
        return Meaning(OutcomeClass.NO_QUOTA, Code.USAGE_LIMIT)
    return None


def _not_from_here(seen: Seen) -> Meaning | None:
    """The key may be good, but not on the way by which it came."""
    if seen.code in codes.FORBIDDEN:
        return Meaning(OutcomeClass.FORBIDDEN, codes.FORBIDDEN[seen.code])
    if _says(seen, _IP):
        return Meaning(OutcomeClass.FORBIDDEN, Code.IP_NOT_ALLOWED)
    return None


def _region_refused(seen: Seen) -> Meaning | None:
    return Meaning(OutcomeClass.FORBIDDEN, Code.REGION) if _says(seen, _REGION) else None


def _scope_missing(seen: Seen) -> Meaning | None:
    if seen.code in codes.RESTRICTED:
        return Meaning(OutcomeClass.RESTRICTED, codes.RESTRICTED[seen.code])
    if seen.code not in codes.REJECTED and _says(seen, _SCOPES):
        return Meaning(OutcomeClass.RESTRICTED, Code.MISSING_SCOPE)
    return None


def _rights_missing(seen: Seen) -> Meaning | None:
    if (missing := _scope_missing(seen)) is not None:
        return missing
    speaks = seen.type == "permission_error" or _says(seen, _PERMISSION)
    if speaks and seen.code not in codes.REJECTED:
        return Meaning(OutcomeClass.RESTRICTED, Code.PERMISSION_DENIED)
    return None


def _key_off(seen: Seen) -> Meaning | None:
    """A key that was switched off, where the status alone does not say so."""
    switched_off = codes.REJECTED.get(seen.code or "") in (Code.DEACTIVATED, Code.REVOKED)
    if switched_off or _opens_with(seen, _ORGANIZATION_OFF):
        return _rejected(seen)
    return None


def _rejected(seen: Seen) -> Meaning:
    code = _known(codes.REJECTED, seen.code, Code.INVALID_API_KEY)
    if code in (Code.INVALID_API_KEY, Code.OTHER):
        code = next((told for pattern, told in _TOLD_OF_KEY if _says(seen, pattern)), code)
    return Meaning(OutcomeClass.REJECTED, code)


def _model_named(seen: Seen) -> Meaning | None:
    if seen.code == Code.MODEL_NOT_FOUND:
        return Meaning(OutcomeClass.MODEL_UNAVAILABLE, Code.MODEL_NOT_FOUND)
    return None


def _model_refused(seen: Seen) -> Meaning | None:
    """A refusal of one model. Only a call that named one can meet it."""
    about_it = seen.model is not None and (seen.model in seen.message or _says(seen, _MODEL))
    if about_it:
        return Meaning(OutcomeClass.MODEL_UNAVAILABLE, Code.MODEL_NOT_FOUND)
    return _model_named(seen)


def _ran_out_of_tokens(seen: Seen) -> Meaning | None:
    """OpenAI's reasoning models ran, and used up the limit before the first visible token."""
    return Meaning(OutcomeClass.BAD_ANSWER, Code.LENGTH) if _says(seen, _OUTPUT_LIMIT) else None


def _request_wrong(seen: Seen) -> Meaning:
    if seen.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Meaning(OutcomeClass.BAD_REQUEST, Code.REQUEST_TOO_LARGE)
    code = _known(codes.BAD_REQUEST, seen.code, Code.INVALID_REQUEST)
    if code in (Code.INVALID_REQUEST, Code.OTHER) and _says(seen, _TOO_LONG):
        code = Code.CONTEXT_LENGTH
    return Meaning(OutcomeClass.BAD_REQUEST, code)
