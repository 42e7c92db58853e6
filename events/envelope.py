"""The CloudEvents 1.0 envelope that every event travels in, and how one is read.

Source of the format: CloudEvents specification 1.0.2, JSON event format.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    Strict,
    StringConstraints,
    ValidationError,
)

MAX_EVENT_BYTES = 256 * 1024
"""The largest event that is accepted, in bytes of its JSON form."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}$")]
"""An id given by upstream (account, key, request): at most 128 characters, no spaces."""

Flag = Annotated[bool, Strict()]
"""Yes or no; neither "yes" nor 1."""

Revision = Annotated[
    int,
    Strict(),
    Field(
        ge=0,
        le=2**53 - 1,
        description="The account's revision in the system of record, which counts it up with every "
        "change; the higher one wins.",
    ),
]
"""A number that the system of record counts up per account; the higher one wins."""


_SHOWN = 3
"""How many problems of an event are named."""


class EventRefused(ValueError):
    """An event cannot be accepted.

    `reason` is a short code from a closed set (a metric label), `sentence` is what an operator
    or a publisher reads. Neither ever holds a value of the event: it might be a key.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


class EventData(BaseModel):
    """What an event says. Subclasses name their type and the queue that takes them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    event_type: ClassVar[str]
    queue: ClassVar[str]
    """The queue of an incoming event; out-events leave it empty and go to the stream."""


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def _readable_traceparent(value: object) -> str | None:
    # W3C Trace Context: one that cannot be read is as none; it is no reason to refuse an event.
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


class Envelope(BaseModel):
    """One CloudEvent. Unknown attributes are CloudEvents extensions and are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    specversion: Literal["1.0"] = "1.0"
    id: Identifier
    source: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    type: str
    time: AwareDatetime
    subject: Identifier
    datacontenttype: Literal["application/json"] = "application/json"
    replyto: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    """Where a publisher waits to hear that the event was claimed (`events.claims`)."""
    signature: Annotated[str, StringConstraints(max_length=128)] | None = None
    """See `events.signing`."""
    traceparent: Annotated[str | None, BeforeValidator(_readable_traceparent)] = None
    """The trace that the event belongs to (CloudEvents' extension for distributed tracing)."""
    data: SerializeAsAny[EventData]

    _sent: str | None = PrivateAttr(default=None)

    def as_sent(self) -> str:
        """The JSON that was read, to the letter: its signature is over that and no other."""
        return self._sent or self.to_json()

    def to_json(self) -> str:
        """The JSON form, in the order in which the attributes are declared.

        Attributes that are not set are left out; in the data, null is a value.
        """
        optional = ("replyto", "signature", "traceparent")
        unset = {name for name in optional if getattr(self, name) is None}
        return self.model_dump_json(exclude=unset)


def wrap(
    data: EventData,
    *,
    event_id: str,
    source: str,
    time: datetime,
    account: str,
    replyto: str | None = None,
    traceparent: str | None = None,
    sign: Callable[[Mapping[str, Any]], str] | None = None,
) -> Envelope:
    """Wrap `data` as the event `event_id` about `account`, signed where `sign` is given.

    Raises `EventRefused` (`invalid_event`) where an attribute breaks the format and
    (`too_large`) where the JSON form is above `MAX_EVENT_BYTES`.
    """
    try:
        envelope = Envelope(
            id=event_id,
            source=source,
            type=data.event_type,
            time=time,
            subject=account,
            replyto=replyto,
            traceparent=traceparent,
            data=data,
        )
    except ValidationError as error:
        raise EventRefused("invalid_event", _sentence("the event", error)) from None
    if sign is not None:
        signature = sign(json.loads(envelope.to_json()))
        envelope = envelope.model_copy(update={"signature": signature})
    refuse_oversize(envelope.to_json())
    return envelope


def refuse_oversize(raw: str | bytes) -> None:
    """Raise `EventRefused` (`too_large`) where `raw` is above `MAX_EVENT_BYTES`."""
    size = len(raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw)
    if size > MAX_EVENT_BYTES:
        raise EventRefused(
            "too_large",
            f"The event has {size:,} bytes and at most {MAX_EVENT_BYTES:,} are accepted: "
            "send a shorter body, without attachments.",
        )


Upcaster = Callable[[Mapping[str, Any]], tuple[str, Mapping[str, Any]]]
"""Takes the data of an event of an old version; gives the next version's type and its data."""

Check = Callable[[Mapping[str, Any]], None]
"""Looks at an event's fields as they came; raises `EventRefused`."""


def read_envelope(
    raw: str | bytes,
    types: Mapping[str, type[EventData]],
    checks: Sequence[Check] = (),
    upcasters: Mapping[str, Upcaster] = MappingProxyType({}),
    *,
    known_only: bool = False,
) -> Envelope:
    """Read one event whose type is in `types`, and which passes `checks`.

    One whose type is in `upcasters` is brought to the newest version first; the envelope keeps
    the type that was sent, so that the use of old versions is seen. With `known_only`, fields of
    the data that the model does not have are passed over instead of refused.

    Raises `EventRefused` with reason `too_large`, `not_json`, `not_cloudevent`, `unknown_type`,
    `unknown_version` or `invalid_event`, or what a check raises.
    """
    refuse_oversize(raw)
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        fields = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise EventRefused(
            "not_json", "The message is not JSON: send a CloudEvent 1.0 in JSON."
        ) from None
    if not isinstance(fields, dict) or fields.get("specversion") != "1.0":
        raise EventRefused(
            "not_cloudevent", 'The message is not a CloudEvent: `specversion` must be "1.0".'
        )
    kind, data = fields.get("type"), fields.get("data")
    while isinstance(kind, str) and kind in upcasters and isinstance(data, Mapping):
        kind, data = upcasters[kind](data)
    model = types.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise _unknown_type(kind, types)
    for check in checks:
        check(fields)
    if known_only and isinstance(data, Mapping):
        data = {name: value for name, value in data.items() if name in model.model_fields}
    try:
        envelope = Envelope.model_validate(fields | {"data": model.model_validate(data)})
    except ValidationError as error:
        raise EventRefused(
            "invalid_event", _sentence(f"the event {model.event_type}", error)
        ) from None
    envelope._sent = text
    return envelope


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names differ. Of two of the same name, readers disagree which counts."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is there twice")
    return fields


def _unknown_type(kind: object, types: Mapping[str, type[EventData]]) -> EventRefused:
    known = {name.rpartition(".v")[0] for name in types}
    stem, _, version = kind.rpartition(".v") if isinstance(kind, str) else ("", "", "")
    if stem in known and version.isascii() and version.isdecimal():
        versions = ", ".join(sorted(n for n in types if n.startswith(f"{stem}.v")))
        return EventRefused(
            "unknown_version",
            f"This worker does not know version {int(version[:6])} of {stem}; it reads {versions}: "
            "upgrade the workers, or publish one of these.",
        )
    return EventRefused(
        "unknown_type", "The event's `type` is not one that is read here: see the event reference."
    )


def _sentence(what: str, error: ValidationError) -> str:
    """Name the fields that are wrong and why, never their values."""
    problems: list[str] = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        # An unexpected field's name comes from outside, too: it is not repeated.
        unexpected = item["type"] == "extra_forbidden"
        path = ".".join(str(part) for part in (item["loc"][:-1] if unexpected else item["loc"]))
        problems.append(f"{path or 'data'}: {_plain(item)}")
    shown = "; ".join(problems[:_SHOWN])
    more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
    return f"In {what}, {shown}{more}."


def _plain(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "has a field that is not in the contract"
    if item["type"] == "value_error":
        return "is not accepted"
    message: str = item["msg"]
    return message[0].lower() + message[1:]
