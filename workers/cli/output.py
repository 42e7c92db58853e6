"""What commands print with `--json`: one object, or one a line where the name ends in `[]`.

`docs/commands.json` holds these as JSON Schemas. Fields may come; none goes or changes its meaning
within a major version.
"""

import json
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict  # pydantic cannot read `typing`'s before Python 3.12

FILE = Path(__file__).parents[2] / "docs" / "commands.json"

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
    set_aside: dict[str, int]
    pauses: list[Pause]


@with_config(_STRICT)
class Day(TypedDict):
    """A day of the usage card; money as a decimal text."""

    date: str
    operations: int
    byok_operations: int
    platform_operations: int
    tokens: int
    cost_usd: str


@with_config(_STRICT)
class Applied(TypedDict):
    """The migrations that were applied."""

    applied: list[str]


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


OUTPUTS: dict[str, Any] = {
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
    "keygen": dict[str, str],
    "rekey": Rekeyed,
    "contract write": Changed,
}
"""By command: the type of what it prints."""


def schemas() -> dict[str, Any]:
    """The JSON Schema of each command's output."""
    return {
        command: TypeAdapter(shape).json_schema(mode="serialization")
        for command, shape in sorted(OUTPUTS.items())
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(schemas(), indent=1, sort_keys=True) + "\n")
