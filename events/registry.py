"""All event types and versions, and how to read one of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from events.accounts import AccountDeleted, AccountUpdated
from events.analyses import (
    AnalysisCompleted,
    AnalysisFailed,
    AnalysisRequested,
    AnalysisSkipped,
    FallbackUsed,
    ProviderHealthChanged,
)
from events.envelope import Check, Envelope, EventData, Upcaster, read_envelope
from events.keys import KeyAdded, KeyRemoved, KeyReplaced, KeyStatusChanged, KeyTested, KeyUpdated
from events.redaction import refuse_readable_keys
from events.signing import Sources
from events.usage import BudgetReached, CreditsExhausted, EventRejected, UsageRecorded


def _by_type(*models: type[EventData]) -> Mapping[str, type[EventData]]:
    return MappingProxyType({model.event_type: model for model in models})


INCOMING = _by_type(
    AccountUpdated,
    AccountDeleted,
    KeyAdded,
    KeyReplaced,
    KeyUpdated,
    KeyTested,
    KeyRemoved,
    AnalysisRequested,
    UsageRecorded,
)
"""Event types that the workers read, by their `type`."""

OUTGOING = _by_type(
    KeyStatusChanged,
    AnalysisCompleted,
    AnalysisFailed,
    AnalysisSkipped,
    EventRejected,
    FallbackUsed,
    ProviderHealthChanged,
    CreditsExhausted,
    BudgetReached,
)
"""Event types that the workers emit on the stream, by their `type`."""

QUEUES = tuple(sorted({model.queue for model in INCOMING.values()}))
"""The queues that incoming events travel on."""


UPCASTERS: Mapping[str, Upcaster] = MappingProxyType({})
"""From the type of an old version to what makes the next version of it.

The rule: an optional field needs no new version, and says in the model which in-flight messages
need it to be optional. A change of meaning is a new version: a model of its own in `INCOMING` in
place of the old one, and an upcaster here. Messages of an old version are read for as long as a
publisher may send them; the metric `byok_events_total` tells by type whether any does.
"""


def read_event(
    raw: str | bytes, sources: Sources | None = None, now: datetime | None = None
) -> Envelope:
    """Read one incoming event, and with `sources` require that one of them signed it.

    Raises `EventRefused` as `events.envelope.read_envelope`, `events.signing.Sources.verify` and
    `events.redaction.refuse_readable_keys` do.
    """
    checks: list[Check] = [refuse_readable_keys]
    if sources is not None:
        moment = now or datetime.now(UTC)
        checks.append(lambda fields: sources.verify(fields, moment))
    return read_envelope(raw, INCOMING, checks, UPCASTERS)


def read_out_event(raw: str | bytes) -> Envelope:
    """Read one event of the out-event stream. Raises `EventRefused`.

    Fields that this version does not know are passed over: workers may be newer than subscribers.
    """
    return read_envelope(raw, OUTGOING, known_only=True)
