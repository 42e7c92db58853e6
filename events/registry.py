"""All event types and versions, and how to read one of them."""

from collections.abc import Mapping
from types import MappingProxyType

from events.accounts import AccountDeleted, AccountUpdated
from events.analyses import (
    AnalysisCompleted,
    AnalysisFailed,
    AnalysisRequested,
    AnalysisSkipped,
    FallbackUsed,
)
from events.envelope import Envelope, EventData, read_envelope
from events.keys import KeyAdded, KeyRemoved, KeyReplaced, KeyStatusChanged, KeyTested, KeyUpdated
from events.usage import CreditsExhausted, EventRejected, UsageRecorded


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
    CreditsExhausted,
)
"""Event types that the workers emit on the stream, by their `type`."""

QUEUES = tuple(sorted({model.queue for model in INCOMING.values()}))
"""The queues that incoming events travel on."""


def read_event(raw: str | bytes) -> Envelope:
    """Read one incoming event. Raises `EventRefused` as `events.envelope.read_envelope` does."""
    return read_envelope(raw, INCOMING)
