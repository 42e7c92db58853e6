"""What commands print with `--json`: one object, or one a line where the name ends in `[]`.

`docs/commands.json` holds these as JSON Schemas (`workers.cli.reference`). Fields may come; none
goes or changes its meaning within a major version.
"""

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic cannot read `typing`'s before Python 3.12

_STRICT = ConfigDict(extra="forbid", strict=True)


@with_config(_STRICT)
class Account(TypedDict):
    """An account and its credits in the current period."""

    account: str
    revision: int
    plan: str
    plan_status: str
    byok_included: bool
    ai_consent: bool
    credits: int | None
    credits_used: int
    credits_reserved: int
    budget_usd: str | None
    spent_this_month_usd: str | None
    timezone: str
    custom_categories: int


@with_config(_STRICT)
class Deleted(TypedDict):
    """An account that was deleted: what was destroyed, and what is left (nothing)."""

    account: str
    deleted: bool
    at: str
    revision: int
    event_id: str
    source: str
    destroyed: dict[str, Any]
    left: dict[str, int]


@with_config(_STRICT)
class KeyId(TypedDict):
    """A key that was named."""

    account: str
    key_id: str


@with_config(_STRICT)
class Key(TypedDict):
    """A key without its secret; moments in ISO 8601."""

    key_id: str
    provider: str
    status: str
    reason: str
    last4: str
    added_at: str
    tested_at: str | None
    requests: int
    allow_platform_fallback: bool
    usable: bool
    unusable_reason: str | None


@with_config(_STRICT)
class Keys(TypedDict):
    """The keys of an account."""

    account: str
    keys: list[Key]


@with_config(_STRICT)
class KeyChange(TypedDict):
    """What changed a key, and who."""

    at: str
    key_id: str
    old: str | None
    new: str
    reason: str
    cause: str
    event_id: str | None
    source: str


@with_config(_STRICT)
class History(TypedDict):
    """What changed an account's keys."""

    account: str
    changes: list[KeyChange]


@with_config(_STRICT)
class SetAside(TypedDict):
    """A message that was set aside."""

    id: str
    at: str
    queue: str
    reason: str
    sentence: str
    event_id: str | None
    event_type: str | None
    account: str | None
    bytes: NotRequired[int]


@with_config(_STRICT)
class Check(TypedDict):
    """A part that the doctor looked at, and what to do about it."""

    part: str
    ok: bool
    detail: str
    do: str | None


@with_config(_STRICT)
class Doctor(TypedDict):
    """Everything that the doctor looked at."""

    ok: bool
    checks: list[Check]


@with_config(_STRICT)
class Process(TypedDict):
    """A process of a role, and what is wrong with it by part."""

    pid: int
    ok: bool
    wrong: dict[str, str]


@with_config(_STRICT)
class Healthcheck(TypedDict):
    """A role on this machine."""

    role: str
    ok: bool
    processes: list[Process]


@with_config(_STRICT)
class Change(TypedDict):
    """What `pause` or `resume` did."""

    kind: Literal["provider", "account", "queue"]
    name: str
    paused: bool
    changed: bool
    by: str
    requests_waiting: int


@with_config(_STRICT)
class Pause(TypedDict):
    """Something that is paused."""

    kind: Literal["provider", "account", "queue"]
    name: str
    since: str
    by: str
    note: str
    requests_waiting: int


@with_config(_STRICT)
class Action(TypedDict):
    """What an operator did."""

    at: str
    by: str
    action: str
    kind: str
    name: str
    note: str


@with_config(_STRICT)
class Paused(TypedDict):
    """What is paused, and the log of who did what."""

    paused: list[Pause]
    log: list[Action]


@with_config(_STRICT)
class Queue(TypedDict):
    """A queue; ages in seconds, `null` where nobody can tell."""

    queue: str
    paused: bool
    waiting: int | None
    taken: int | None
    due_in_store: int | None
    oldest_seconds: float | None
    taken_per_second: float | None
    mean_wait_seconds: float | None


@with_config(_STRICT)
class Analyses(TypedDict):
    """The analyses that have not ended, and how those that did ended meanwhile."""

    running: int
    waiting: dict[str, int]
    oldest_seconds: float
    ended_per_second: dict[str, float | None]
    answered_without_call_share: float | None
    mean_seconds: float | None
    unknown_attempts: int | None
    tokens_per_second: float | None
    cost_usd_per_hour: float | None


@with_config(_STRICT)
class ProviderNow(TypedDict):
    """A provider as it is called now."""

    provider: str
    paused: bool
    breaker: str | None
    running: int
    calls_per_second: float | None
    errors_per_second: float | None
    mean_call_seconds: float | None
    validations_per_second: float | None
    validations_due: int | None
    validations_late: int | None


@with_config(_STRICT)
class KeyCount(TypedDict):
    """How many keys are in a state."""

    provider: str
    status: str
    reason: str
    keys: int


@with_config(_STRICT)
class Lag(TypedDict):
    """What waits in the outbox."""

    outbox: str
    rows: int
    oldest_seconds: float | None


@with_config(_STRICT)
class BudgetCount(TypedDict):
    """How many budgets are near their cap, or used up, in this month."""

    scope: str
    state: str
    budgets: int


@with_config(_STRICT)
class Top(TypedDict):
    """One look at the system; rates are of the interval between two looks."""

    at: str
    away: dict[str, str]
    counted_from: str | None
    processes: dict[str, int]
    queues: list[Queue]
    analyses: Analyses
    providers: list[ProviderNow]
    keys: list[KeyCount]
    lag: list[Lag]
    kept_too_long_seconds: dict[str, float]
    budgets: list[BudgetCount]
    platform_budget_share: float | None
    set_aside: dict[str, int]
    pauses: list[Pause]


@with_config(_STRICT)
class Applied(TypedDict):
    """The migrations that were applied."""

    applied: list[str]


@with_config(_STRICT)
class Restored(TypedDict):
    """What a restored database is kept from, until upstream has said how things stand."""

    at: str
    consents_off: int
    keys_held: int
    requests_ended: int


@with_config(_STRICT)
class Changed(TypedDict):
    """The files that were written anew."""

    changed: list[str]


@with_config(_STRICT)
class Rekeyed(TypedDict):
    """What `rekey` did."""

    current: str
    rewrapped: int
    unreadable: int
    left: int
    droppable: list[str]


@with_config(_STRICT)
class Started(TypedDict):
    """A role that has started, and the addresses at which it answers."""

    role: str
    pid: int
    state_dir: str
    health: str | None
    metrics: str | None


@with_config(_STRICT)
class Mail(TypedDict):
    """A mail that was asked about. `by` is `model`, `rules` or `reuse`."""

    file: str
    request_id: str | None
    state: str
    reason: str
    operation: str
    provider: str | None
    model: str | None
    credential: str
    key_id: str | None
    fallback_reason: str | None
    by: str | None
    prompt_version: str | None
    result: dict[str, Any] | None
    usage: dict[str, Any] | None
    attempts: int


@with_config(_STRICT)
class _Sums(TypedDict):
    """What a part of the card adds up to; money as a decimal text."""

    operations: int
    calls: int
    tokens: int
    cost_usd: str
    unpriced_calls: int


@with_config(_STRICT)
class OfOperation(_Sums):
    """What an operation adds up to."""

    operation: str


@with_config(_STRICT)
class OfModel(_Sums):
    """What a model adds up to."""

    provider: str
    model: str


@with_config(_STRICT)
class OfCredential(_Sums):
    """What adds up by whose key paid."""

    credential: str


@with_config(_STRICT)
class Day(TypedDict):
    """A day of the usage card, by the account's time zone; money as a decimal text."""

    date: str
    operations: int
    byok_operations: int
    platform_operations: int
    tokens: int
    cost_usd: str
    byok_cost_usd: str
    platform_cost_usd: str


@with_config(_STRICT)
class UsageCard(TypedDict):
    """The usage card of an account; money as a decimal text, shares from 0 to 1."""

    account: str
    days: int
    first_day: str
    last_day: str
    timezone: str
    operations: int
    total_cost_usd: str
    tokens: int
    cached_input_share: float
    byok_share: float | None
    provider_distribution: dict[str, float]
    calls: int
    input_tokens: int
    cached_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    unpriced_calls: int
    by_operation: list[OfOperation]
    by_model: list[OfModel]
    by_credential: list[OfCredential]
    by_day: list[Day]


@with_config(_STRICT)
class Demo(TypedDict):
    """What the demo did: its accounts' keys, mails and usage, and the same mails once more."""

    answered_by_sandbox: list[str]
    keys: dict[str, list[Key]]
    mails: dict[str, list[Mail]]
    mails_again: dict[str, list[Mail]]
    usage: dict[str, UsageCard]


@with_config(_STRICT)
class Differs(TypedDict):
    """A row of what is added up that is not what the ledger says."""

    what: str
    key: dict[str, str]
    live: dict[str, int]
    ledger: dict[str, int]


@with_config(_STRICT)
class Rebuilt(TypedDict):
    """What differed from the ledger, and whether it was put right."""

    ok: bool
    applied: bool
    differences: list[Differs]


@with_config(_STRICT)
class Compared(TypedDict):
    """One comparison of an audit."""

    check: str
    compared: int
    findings: int


@with_config(_STRICT)
class AuditFinding(TypedDict):
    """Something that does not match."""

    check: str
    about: str
    sentence: str


@with_config(_STRICT)
class Audit(TypedDict):
    """The books held against each other."""

    ok: bool
    checks: list[Compared]
    findings: list[AuditFinding]
    unknown_attempts: int


@with_config(_STRICT)
class Repriced(TypedDict):
    """A model whose calls cost another amount; money as a decimal text."""

    provider: str
    model: str
    calls: int
    first_priced: int
    old_cost_usd: str
    new_cost_usd: str


@with_config(_STRICT)
class Reprice(TypedDict):
    """What the ledger costs by this version's price table."""

    price_version: str
    looked_at: int
    applied: bool
    difference_usd: str
    changes: list[Repriced]


@with_config(_STRICT)
class Event(TypedDict):
    """An out-event: a CloudEvent, as `deploy/contracts` describes it type by type."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    datacontenttype: str
    traceparent: NotRequired[str]
    data: dict[str, Any]


@with_config(_STRICT)
class Sent(TypedDict):
    """What `revalidate --due` did."""

    sent: int
    put_off: int


@with_config(_STRICT)
class Marked(TypedDict):
    """What `revalidate --all` did, and in how many seconds the last key's turn is."""

    marked: int
    seconds: int


@with_config(_STRICT)
class Environment(TypedDict):
    """A publisher's variables."""

    BYOK_BROKER_URL: str
    BYOK_REDIS_URL: str
    BYOK_SEALING_PUBLIC_KEY: str
    BYOK_SOURCE: str


@with_config(_STRICT)
class Vectors(TypedDict):
    """The test vectors, as they lie in `deploy/contracts/vectors.json`."""

    about: list[str]
    now: str
    keys: dict[str, Any]
    sealing: list[dict[str, Any]]
    sealing_refused: list[dict[str, Any]]
    events: list[dict[str, Any]]
    events_refused: list[dict[str, Any]]


@with_config(_STRICT)
class CheckedVector(TypedDict):
    """A test vector, and what our own code does otherwise."""

    group: str
    name: str
    expected: str
    ok: bool
    problems: list[str]


@with_config(_STRICT)
class CheckedVectors(TypedDict):
    """What `vectors --check` found."""

    ok: bool
    vectors: list[CheckedVector]


@with_config(_STRICT)
class RefusalReason(TypedDict):
    """A reason for which an event is refused."""

    reason: str
    by: str
    sentence: str


@with_config(_STRICT)
class Refusals(TypedDict):
    """Every reason for which an event is refused."""

    refusals: list[RefusalReason]


OUTPUTS: dict[str, Any] = {
    "demo": Demo,
    "up": Started,
    "worker": Started,
    "scheduler": Started,
    "exporter": Started,
    "analyze[]": Mail,
    "usage card": UsageCard,
    "usage rebuild": Rebuilt,
    "usage audit": Audit,
    "usage reprice": Reprice,
    "events[]": Event,
    "revalidate": Sent | Marked,
    "contract environment": Environment,
    "contract vectors": Vectors | CheckedVectors,
    "contract refusals": Refusals,
    "account set": Account,
    "account show": Account,
    "account delete": Deleted,
    "keys add": KeyId | Key,
    "keys replace": KeyId | Key,
    "keys test": KeyId | Key,
    "keys remove": KeyId,
    "keys show": Keys,
    "keys history": History,
    "failed list[]": SetAside,
    "failed show": SetAside,
    "failed retry": dict[Literal["retried"], int],
    "failed drop": dict[Literal["dropped"], int],
    "doctor": Doctor,
    "healthcheck": Healthcheck,
    "pause": Change,
    "resume": Change,
    "paused": Paused,
    "top": Top,
    "db upgrade": Applied,
    "db restored": Restored,
    "keygen": dict[str, str],
    "rekey": Rekeyed,
    "contract write": Changed,
}
"""By command: the type of what it prints."""
