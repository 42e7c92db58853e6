"""What may be said: the contracts of the system, sealing, and publishing.

Imports none of the other packages, neither SQLAlchemy nor a provider's SDK, so that a publisher
needs nothing else.
"""

from events.accounts import (
    AccountDeleted,
    AccountUpdated,
    CategoryOverride,
    CreditPeriod,
    CustomCategory,
    PlanStatus,
)
from events.analyses import (
    AnalysisCompleted,
    AnalysisFailed,
    AnalysisInput,
    AnalysisRequested,
    AnalysisSkipped,
    CallUsage,
    FallbackUsed,
    MailInput,
    Operation,
    Provenance,
    ProviderChoice,
    ProviderHealthChanged,
    ThreadInput,
    ThreadMessage,
)
from events.broker import BrokerAway
from events.claims import NotClaimed, Refused
from events.envelope import Envelope, EventData, EventRefused
from events.keys import (
    KeyAdded,
    KeyRemoved,
    KeyReplaced,
    KeyStatus,
    KeyStatusChanged,
    KeyTested,
    KeyUpdated,
    Provider,
)
from events.publisher import Publisher, publish, publish_async
from events.registry import INCOMING, OUTGOING, QUEUES, read_event, read_out_event
from events.sealing import SealingKeys, SealingPublicKey, seal_input, seal_key
from events.signing import SigningKey, Source, Sources
from events.stream import subscribe
from events.usage import BudgetReached, CreditsExhausted, EventRejected, UsageRecorded

__all__ = [
    "INCOMING",
    "OUTGOING",
    "QUEUES",
    "AccountDeleted",
    "AccountUpdated",
    "AnalysisCompleted",
    "AnalysisFailed",
    "AnalysisInput",
    "AnalysisRequested",
    "AnalysisSkipped",
    "BrokerAway",
    "BudgetReached",
    "CallUsage",
    "CategoryOverride",
    "CreditPeriod",
    "CreditsExhausted",
    "CustomCategory",
    "Envelope",
    "EventData",
    "EventRefused",
    "EventRejected",
    "FallbackUsed",
    "KeyAdded",
    "KeyRemoved",
    "KeyReplaced",
    "KeyStatus",
    "KeyStatusChanged",
    "KeyTested",
    "KeyUpdated",
    "MailInput",
    "NotClaimed",
    "Operation",
    "PlanStatus",
    "Provenance",
    "Provider",
    "ProviderChoice",
    "ProviderHealthChanged",
    "Publisher",
    "Refused",
    "SealingKeys",
    "SealingPublicKey",
    "SigningKey",
    "Source",
    "Sources",
    "ThreadInput",
    "ThreadMessage",
    "UsageRecorded",
    "publish",
    "publish_async",
    "read_event",
    "read_out_event",
    "seal_input",
    "seal_key",
    "subscribe",
]
