"""From what a provider sent to an outcome of the port: the part that both adapters share.

An adapter tells how its provider writes things (a `Dialect`, and how a success reads); what comes
of it is told here, once.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError

from events.keys import Provider
from workers.providers.codes import Code
from workers.providers.port import Answer, Failure, Limits, OutcomeClass, Proof, Question, Tokens
from workers.providers.verdict import Seen, Trouble, classify

_WHOLE_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a provider answered, whatever the status. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """There is no reply. `sent` is false only where no connection was ever established."""

    trouble: Trouble
    sent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFields:
    """What an error's body says; see `verdict.Seen`."""

    code: str | None = None
    type: str | None = None
    message: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one provider writes errors and headers."""

    provider: Provider
    request_id_header: str
    read_error: Callable[[dict[str, Any]], ErrorFields]
    read_limits: Callable[[Mapping[str, str]], Limits]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A success, read. `stopped` says why there is no text to go by, where there is none."""

    model: str
    tokens: Tokens | None
    text: str = field(default="", repr=False)
    stopped: Code | None = None


Reading = Callable[[bytes], Completion]
"""How a success reads. Raises `pydantic.ValidationError` where it is none."""


def failure(dialect: Dialect, outcome: Reply | Broken, model: str | None) -> Failure:
    """What a call that got no 200 comes to. `model` is the one asked for, if any."""
    if isinstance(outcome, Broken):
        meaning = classify(Seen(provider=dialect.provider, trouble=outcome.trouble))
        return Failure(kind=meaning.kind, code=meaning.code, model=model, sent=outcome.sent)
    body = json_object(outcome.body)
    error = dialect.read_error(body) if body is not None else ErrorFields()
    meaning = classify(
        Seen(
            provider=dialect.provider,
            status=outcome.status,
            code=error.code,
            type=error.type,
            message=error.message,
            model=model,
            readable=body is not None,
        )
    )
    limits = dialect.read_limits(outcome.headers)
    wait = retry_after(outcome.headers)
    if wait is None and meaning.kind is OutcomeClass.RATE_LIMITED:
        wait = _until_reset(limits)
    return Failure(
        kind=meaning.kind,
        code=meaning.code,
        status=outcome.status,
        retry_after=wait,
        request_id=_request_id(dialect, outcome),
        model=model,
        limits=limits,
    )


def answer(
    dialect: Dialect, outcome: Reply | Broken, read: Reading, question: Question
) -> Answer | Failure:
    """What a question comes to. What is wrong with the answer itself is billed all the same."""
    if isinstance(outcome, Broken) or outcome.status != HTTPStatus.OK:
        return failure(dialect, outcome, question.model)
    try:
        completion = read(outcome.body)
    except ValidationError:
        return unreadable(dialect, outcome, question.model)
    model = _model(completion, question.model)
    value = None if completion.stopped else _fitted(question.schema, completion.text)
    if value is None:
        return Failure(
            kind=OutcomeClass.BAD_ANSWER,
            code=completion.stopped or Code.OFF_SCHEMA,
            status=outcome.status,
            request_id=_request_id(dialect, outcome),
            model=model,
            tokens=completion.tokens,
            limits=dialect.read_limits(outcome.headers),
        )
    return Answer(
        value=value,
        model=model,
        tokens=completion.tokens or Tokens(),
        request_id=_request_id(dialect, outcome),
        limits=dialect.read_limits(outcome.headers),
    )


def free_proof(
    dialect: Dialect,
    outcome: Reply | Broken,
    *,
    stage: int,
    holds: str,
    kind: type,
    model: str | None = None,
) -> Proof | Failure:
    """What a probe that costs nothing comes to: a 200 counts if its field `holds` is a `kind`.

    A portal that answers 200 to everything must not make a key Valid.
    """
    if isinstance(outcome, Broken) or outcome.status != HTTPStatus.OK:
        return failure(dialect, outcome, model)
    if not isinstance((json_object(outcome.body) or {}).get(holds), kind):
        return unreadable(dialect, outcome, model)
    return Proof(stage=stage, request_id=_request_id(dialect, outcome), model=model)


def billed_proof(
    dialect: Dialect, outcome: Reply | Broken, read: Reading, model: str
) -> Proof | Failure:
    """What stage 2's real call comes to. Whatever the model said, it ran: the key can be spent."""
    if isinstance(outcome, Broken) or outcome.status != HTTPStatus.OK:
        failed = failure(dialect, outcome, model)
        if failed.kind is OutcomeClass.RESTRICTED:
            return replace(failed, code=Code.RESTRICTED)
        if failed.kind is OutcomeClass.BAD_ANSWER:
            return Proof(stage=2, request_id=failed.request_id, model=model)
        return failed
    try:
        completion = read(outcome.body)
    except ValidationError:
        return unreadable(dialect, outcome, model)
    return Proof(
        stage=2,
        request_id=_request_id(dialect, outcome),
        model=_model(completion, model),
        tokens=completion.tokens,
    )


def unreadable(dialect: Dialect, reply: Reply, model: str | None) -> Failure:
    """A success in name only: its body is not the provider's."""
    return Failure(
        kind=OutcomeClass.UNAVAILABLE,
        code=Code.MALFORMED,
        status=reply.status,
        request_id=_request_id(dialect, reply),
        model=model,
        limits=dialect.read_limits(reply.headers),
    )


def json_object(body: bytes) -> dict[str, Any] | None:
    """`body` as a JSON object, or `None` where it is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_or_none(value: object) -> str | None:
    """`value` where it is a string that says something."""
    return value if isinstance(value, str) and value else None


def whole_number(headers: Mapping[str, str], name: str) -> int | None:
    """A header that counts something."""
    value = headers.get(name, "")
    return int(value) if _WHOLE_NUMBER.fullmatch(value) else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from the answer on until a retry is welcome, or `None` where that is not said."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    seconds = _seconds(said)
    if seconds is not None or said is None:
        return seconds
    return seconds_until(headers, _http_date(said))


def seconds_until(headers: Mapping[str, str], moment: datetime | None) -> float | None:
    """Seconds from the answer to `moment`, never below 0, by the answer's own `Date`.

    Both times are the provider's, so its clock may differ from ours.
    """
    answered = _http_date(headers.get("date", ""))
    if moment is None or answered is None or moment.tzinfo is None or answered.tzinfo is None:
        return None
    return max(0.0, (moment - answered).total_seconds())


def _fitted(schema: type[BaseModel], text: str) -> BaseModel | None:
    """`text` as a `schema`, or `None` where it does not fit."""
    try:
        return schema.model_validate_json(text)
    except Exception:  # noqa: BLE001 -- a schema's own validator may raise anything
        return None


def _until_reset(limits: Limits) -> float | None:
    """Seconds until every limit that is used up is whole again."""
    waits = (
        limits.reset_requests if limits.remaining_requests == 0 else None,
        limits.reset_tokens if limits.remaining_tokens == 0 else None,
    )
    return max((wait for wait in waits if wait is not None), default=None)


def _request_id(dialect: Dialect, reply: Reply) -> str | None:
    """The provider's id of a request, where it looks like one: it is stored and shown."""
    found = reply.headers.get(dialect.request_id_header, "")
    return found if _REQUEST_ID.fullmatch(found) else None


def _model(completion: Completion, asked: str) -> str:
    return completion.model if _MODEL.fullmatch(completion.model) else asked


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _http_date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value)
    except ValueError:
        return None
