"""Every row of "What an answer means" (`docs/providers.md`), end to end: what becomes of the key
and of the request, in validation and in analyses, for both providers; and what `byok keys show`
says of the key then."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from deploy.local.sandbox.faults import FAULTS
from events import KeyTested, Provider, ProviderChoice
from store.keys import KeyRecord
from tests.integration.keys.keeping import command
from tests.road import Road
from workers.analyses import retry
from workers.keys import validation
from workers.pacing import permits

PREFIX = {Provider.OPENAI: "sk-proj-sandbox-", Provider.ANTHROPIC: "sk-ant-api03-sandbox-"}
BOTH = tuple(Provider)


@dataclass(frozen=True)
class Row:
    """A fault of the sandbox, and what the table says of it."""

    fault: str
    providers: tuple[Provider, ...]
    status: str
    reason: str
    request: str
    """How an analysis ends, or why it waits, as `state: reason`."""


VALIDATION = (
    Row("invalid", BOTH, "invalid", "rejected", ""),
    Row("revoked", BOTH, "invalid", "rejected", ""),
    Row("deactivated", (Provider.OPENAI,), "invalid", "deactivated", ""),
    Row("restricted", BOTH, "valid", "ok", ""),
    Row("restrictedall", BOTH, "invalid", "restricted", ""),
    Row("ip", BOTH, "invalid", "ip_not_allowed", ""),
    Row("region", BOTH, "invalid", "region", ""),
    Row("nomodel", BOTH, "valid", "ok", ""),
    Row("noquota", BOTH, "valid", "ok", ""),
    Row("billing", BOTH, "valid", "ok", ""),
    Row("error500", BOTH, "pending", "", ""),
    Row("error502", BOTH, "pending", "", ""),
    Row("error503", BOTH, "pending", "", ""),
    Row("error504", BOTH, "pending", "", ""),
    Row("overloaded", BOTH, "pending", "", ""),
    Row("ratelimited", BOTH, "pending", "", ""),
    Row("reset", BOTH, "pending", "", ""),
    Row("malformed", BOTH, "pending", "", ""),
    Row("html", BOTH, "pending", "", ""),
)

ANALYSIS = (
    Row("invalid", BOTH, "invalid", "rejected", "failed: key_invalid"),
    Row("revoked", BOTH, "invalid", "rejected", "failed: key_invalid"),
    Row("deactivated", (Provider.OPENAI,), "invalid", "deactivated", "failed: key_invalid"),
    Row("ip", BOTH, "invalid", "ip_not_allowed", "failed: key_invalid"),
    Row("region", BOTH, "invalid", "region", "failed: key_invalid"),
    Row("restrictedall", BOTH, "invalid", "restricted", "failed: key_invalid"),
    Row("nomodel", BOTH, "valid", "ok", "failed: model_unavailable"),
    Row("ratelimited", BOTH, "valid", "ok", "waiting: rate_limited"),
    Row("noquota", BOTH, "valid", "no_quota", "failed: key_no_quota"),
    Row("billing", BOTH, "valid", "no_quota", "failed: key_no_quota"),
    Row("spendlimit", BOTH, "valid", "no_quota", "failed: key_no_quota"),
    Row("toolong", BOTH, "valid", "ok", "failed: bad_request"),
    Row("offschema", BOTH, "valid", "ok", "failed: bad_answer"),
    Row("refusal", BOTH, "valid", "ok", "failed: bad_answer"),
    Row("length", BOTH, "valid", "ok", "failed: bad_answer"),
    Row("empty", BOTH, "valid", "ok", "failed: bad_answer"),
    Row("error500", BOTH, "valid", "ok", "waiting: provider_unavailable"),
    Row("error502", BOTH, "valid", "ok", "waiting: provider_unavailable"),
    Row("error503", BOTH, "valid", "ok", "waiting: provider_unavailable"),
    Row("error504", BOTH, "valid", "ok", "waiting: provider_unavailable"),
    Row("overloaded", BOTH, "valid", "ok", "waiting: provider_unavailable"),
    Row("html", BOTH, "valid", "ok", "waiting: provider_unavailable"),
    Row("malformed", BOTH, "valid", "ok", "failed: answer_lost"),
    Row("reset", BOTH, "valid", "ok", "failed: answer_lost"),
    Row("bill-then-drop", BOTH, "valid", "ok", "failed: answer_lost"),
)

ELSEWHERE = {"hang", "none", "obedient"}
"""A call that hangs takes its whole timeout: `tests/integration/providers` has a short one. What is
obedient is no error: it depends on the mail."""

SHOWN = {
    *("key_id", "provider", "status", "reason", "last4", "added_at", "tested_at", "requests"),
    *("allow_platform_fallback", "usable", "unusable_reason"),
}
"""The fields of a key in `keys show --json`."""

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
pytestmark = pytest.mark.parametrize("provider", BOTH)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried after milliseconds, but not after long waits."""
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(validation, "LONGEST_RETRY_SECONDS", 0.5)
    # So many keys that fail at once would open the provider's breaker; this is about each alone.
    monkeypatch.setattr(permits, "BREAKER_FAILURES", 1_000_000)


def rows(table: tuple[Row, ...], provider: Provider) -> list[Row]:
    """The rows that hold for a provider."""
    return [row for row in table if provider in row.providers]


def settled(road: Road, key_id: str, failures: int | None) -> KeyRecord:
    """The key once it is no longer Pending, or once more than `failures` validations failed."""

    def found() -> KeyRecord | None:
        key = road.key(key_id)
        if key is None:
            return None
        done = key.status != "pending" if failures is None else key.validation_failures > failures
        return key if done else None

    road.until(found)
    key = found()
    assert key is not None
    return key


def shown_key(road: Road, account: str) -> dict[str, Any]:
    """The account's one key, as `byok keys show --json` has it."""
    told = command(road.app, "keys", "show", account, "--json")
    (key,) = told["keys"]
    assert (told["account"], set(key)) == (account, SHOWN)
    assert key["usable"] == (key["unusable_reason"] is None)
    return key


def stands(road: Road, request_id: str, account: str, told: str) -> bool:
    """Whether a request stands at `state: reason`."""
    request = road.request(request_id, account)
    return request is not None and f"{request.state}: {request.reason}" == told


def test_every_fault_that_the_sandbox_knows_is_in_a_table(provider: Provider) -> None:
    shown = {row.fault for table in (VALIDATION, ANALYSIS) for row in rows(table, provider)}
    unknown = {"deactivated"} if provider is Provider.ANTHROPIC else set()
    assert shown == set(FAULTS) - ELSEWHERE - unknown


@one_road
def test_a_new_key_has_the_status_and_reason_of_the_table(road: Road, provider: Provider) -> None:
    given: dict[str, str] = {}
    for row in rows(VALIDATION, provider):
        account = f"a-{row.fault}"
        road.account(account)
        given[row.fault] = road.give_key(
            f"{PREFIX[provider]}{row.fault}-not-a-real-key", account, settled=False
        )
    for row in rows(VALIDATION, provider):
        key_id = given[row.fault]
        # A key that stays Pending has been asked about more than once.
        settled(road, key_id, failures=1 if row.status == "pending" else None)
        shown = shown_key(road, f"a-{row.fault}")
        assert (row.fault, shown["key_id"]) == (row.fault, key_id)
        assert (row.fault, shown["status"], shown["reason"]) == (row.fault, row.status, row.reason)


@one_road
def test_a_valid_key_and_its_request_become_what_the_table_says(
    road: Road, provider: Provider
) -> None:
    given: dict[str, tuple[str, str]] = {}
    for row in rows(ANALYSIS, provider):
        account = f"a-{row.fault}"
        pasted = f"{PREFIX[provider]}none-{row.fault}-not-a-real-key"
        road.account(account, credits=0)
        key_id = road.give_key(pasted, account)
        road.sandbox.fault(row.fault, key=pasted)
        given[row.fault] = (key_id, road.ask(account, provider=ProviderChoice(provider.value)))
    for row in rows(ANALYSIS, provider):
        key_id, request_id = given[row.fault]
        account = f"a-{row.fault}"
        road.until(partial(stands, road, request_id, account, row.request))
        shown = shown_key(road, account)
        assert (row.fault, shown["key_id"]) == (row.fault, key_id)
        assert (row.fault, shown["status"], shown["reason"]) == (row.fault, row.status, row.reason)


@one_road
def test_a_valid_key_stays_valid_through_all_that_says_nothing_of_it(
    road: Road, provider: Provider
) -> None:
    road.account()
    pasted = f"{PREFIX[provider]}none-steady-not-a-real-key"
    key_id = road.give_key(pasted)
    for fault in ("error500", "error503", "overloaded", "ratelimited", "reset", "malformed"):
        before = road.key(key_id)
        assert before is not None
        road.sandbox.fault(fault, key=pasted)
        road.publish(KeyTested(key_id=key_id), "acme")
        after = settled(road, key_id, failures=before.validation_failures)
        assert (after.status, after.reason) == ("valid", "ok")
    assert len(road.out_events("key.status_changed")) == 2


@one_road
def test_a_key_without_quota_is_probed_again_and_comes_back(
    road: Road, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.keys.QUOTA_PROBE_SECONDS", 0.2)
    road.account(credits=0)
    pasted = f"{PREFIX[provider]}none-poor-not-a-real-key"
    key_id = road.give_key(pasted)
    road.sandbox.fault("noquota", key=pasted)
    request = road.ended(road.ask(provider=ProviderChoice(provider.value)))
    assert request.reason == "key_no_quota"
    road.sandbox.fault("none", key=pasted)
    road.until(lambda: (k := road.key(key_id)) is not None and k.reason == "ok")
    request = road.ended(road.ask(provider=ProviderChoice(provider.value)))
    assert (request.state, request.key_id) == ("completed", key_id)
