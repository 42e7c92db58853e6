"""The table "Which key pays", row by row and end to end: who was asked with whose key, what it cost
in credits, and what the account was told."""

from dataclasses import dataclass, field
from functools import partial

import pytest

from deploy.local.sandbox.faults import key_digest
from events import Provider, ProviderChoice
from store import keys
from tests.road import PLATFORM_ANTHROPIC, PLATFORM_OPENAI, Road
from workers.analyses import credential, retry

OWN = {Provider.OPENAI: "sk-proj-sandbox-none-", Provider.ANTHROPIC: "sk-ant-api03-sandbox-none-"}
PLATFORM = {Provider.OPENAI: PLATFORM_OPENAI, Provider.ANTHROPIC: PLATFORM_ANTHROPIC}


@dataclass(frozen=True)
class Row:
    """One cell of the table: the key's state, the key's setting, and what must come of a request.

    `ends` is `own` or `platform`, or the reason of a failure; `fallback` why the platform stood in.
    """

    state: str
    allows: bool
    ends: str
    fallback: str | None = None
    plan: str = "business"
    faults: tuple[tuple[str, str], ...] = field(default=())


ROWS = (
    Row("valid", False, "own"),
    Row("valid", True, "own"),
    Row("pending", False, "key_pending", faults=(("error503", "models"),)),
    Row("pending", True, "platform", "key_pending", faults=(("error503", "models"),)),
    Row("invalid", False, "key_invalid", faults=(("revoked", "models"),)),
    Row("invalid", True, "platform", "key_invalid", faults=(("revoked", "models"),)),
    Row("no quota", False, "key_no_quota", faults=(("noquota", "completion"),)),
    Row("no quota", True, "platform", "key_no_quota", faults=(("noquota", "completion"),)),
    Row("plan without", False, "platform", "plan", plan="pro"),
    Row("plan without", True, "platform", "plan", plan="pro"),
    Row("none", False, "platform"),
    Row("removed", True, "platform"),
)

pytestmark = [
    pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True),
    pytest.mark.parametrize("provider", list(Provider)),
]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits half a second for a verdict; the rest is tried again at once."""
    monkeypatch.setattr(credential, "PENDING_LIMIT_MS", 500)
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)


def prepared(road: Road, row: Row, provider: Provider) -> tuple[str, str, str | None]:
    """An account whose key is in the row's state; its name, its pasted key, the key's id."""
    account = f"{row.state}-{'on' if row.allows else 'off'}".replace(" ", "-")
    pasted = f"{OWN[provider]}{account}-not-a-real-key"
    road.account(account, plan=row.plan, credits=3)
    for fault, endpoint in row.faults:
        road.sandbox.fault(fault, key=pasted, endpoint=endpoint)
    if row.state == "none":
        return account, pasted, None
    key_id = road.give_key(
        pasted, account, provider=provider, fallback=row.allows, settled=row.state != "pending"
    )
    if row.state == "pending":
        road.until(partial(road.key, key_id))
    if row.state == "removed":
        road.remove_key(key_id, account)
    return account, pasted, key_id


def test_each_row_of_the_table_is_paid_by_whom_it_says(road: Road, provider: Provider) -> None:
    choice = ProviderChoice(provider.value)
    asked = {}
    for row in ROWS:
        account, pasted, key_id = prepared(road, row, provider)
        asked[row] = (account, pasted, key_id, road.ask(account, provider=choice))
    digests = {}
    for row, (account, pasted, key_id, request_id) in asked.items():
        request = road.ended(request_id, account)
        told = (row.state, row.allows)
        paid = row.ends in ("own", "platform")
        assert (*told, request.state) == (*told, "completed" if paid else "failed")
        assert (*told, request.reason) == (*told, "" if paid else row.ends)
        assert (*told, request.fallback_reason if paid else None) == (*told, row.fallback)
        if row.ends == "own":
            assert (request.credential, request.key_id) == ("byok", key_id)
            digests[request_id] = key_digest(pasted)
        elif row.ends == "platform":
            assert (request.credential, request.key_id) == ("platform", None)
            digests[request_id] = key_digest(PLATFORM[provider])
        # One credit for each that the platform completed, none for what an own key did or did not.
        assert (*told, *road.credits(account)) == (*told, int(row.ends == "platform"), 0)
    ledger = {row.request_id: row for row in road.settled_ledger()}
    billed = {call["request_id"]: call["key_digest"] for call in road.sandbox.billed_calls()}
    assert {
        request_id: billed[str(row.provider_request_id)] for request_id, row in ledger.items()
    } == digests
    assert len(billed) == len(digests)
    stood_in = {e["data"]["request_id"] for e in road.out_events("fallback.used")}
    assert stood_in == {
        request_id for row, (*_, request_id) in asked.items() if row.fallback is not None
    }


def test_a_request_waits_for_the_verdict_and_is_then_paid_by_the_key(
    road: Road, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential, "PENDING_LIMIT_MS", 60_000)
    monkeypatch.setattr(keys, "RESEND_SECONDS", 1)
    road.account(credits=3)
    pasted = f"{OWN[provider]}late-not-a-real-key"
    road.sandbox.fault("error503", key=pasted, endpoint="models")
    key_id = road.give_key(pasted, provider=provider, settled=False)
    road.until(partial(road.key, key_id))
    request_id = road.ask(provider=ProviderChoice(provider.value))
    road.until(lambda: (r := road.request(request_id)) is not None and r.reason == "key_pending")
    road.sandbox.clear_faults()
    request = road.ended(request_id)
    assert (request.state, request.key_id, road.credits()) == ("completed", key_id, (0, 0))
