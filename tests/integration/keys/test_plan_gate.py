"""Keys and plans: a plan without BYOK keeps a key, does not use it, and says so once."""

from typing import Any

import pytest
from sqlalchemy import select

from events import (
    AccountUpdated,
    CreditPeriod,
    EventData,
    KeyAdded,
    PlanStatus,
    Provider,
    read_out_event,
    seal_key,
)
from store import keys
from store.schema import outbox
from tests.integration.keys.keeping import byok, history_of
from tests.road import GOOD_OPENAI, MAIL, Road
from tests.unit.workers.standins import event_of
from workers import accounts
from workers.app import App
from workers.effects import moment
from workers.keys import lifecycle

PLAN = "plan_without_byok"
HANDLERS = {**accounts.HANDLERS.by_type, **lifecycle.HANDLERS.by_type}


class Upstream:
    """The system of record: publishes states of one account, and its key, straight to the code."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._revision = 0

    def plan(self, plan: str, status: PlanStatus = PlanStatus.ACTIVE) -> EventData:
        """The account's plan changes; the event."""
        self._revision += 1
        now = moment(self._app.effects)
        data = AccountUpdated(
            revision=self._revision,
            plan=plan,
            plan_status=status,
            ai_consent=True,
            credits=5,
            credit_period=CreditPeriod(start=now, end=now.replace(year=now.year + 1)),
        )
        self.deliver(data)
        return data

    def key(self, key_id: str = "key-1", pasted: str = GOOD_OPENAI) -> None:
        """The account connects a key."""
        self._revision += 1
        self.deliver(
            KeyAdded(
                revision=self._revision,
                provider=Provider.OPENAI,
                key_id=key_id,
                sealed_key=seal_key(
                    pasted,
                    self._app.settings.sealing_public,
                    account="acme",
                    provider=Provider.OPENAI,
                    key_id=key_id,
                ),
            )
        )

    def deliver(self, data: EventData) -> None:
        """An event reaches the workers."""
        revision = getattr(data, "revision", 0)
        event = event_of(data, event_id=f"evt-{revision}", source="upstream")
        HANDLERS[type(data)](self._app, event, data)

    def told(self) -> list[tuple[str | None, str, str]]:
        """The `key.status_changed` since this was asked last: (old, new, reason)."""
        with self._app.database.write() as connection:
            rows = connection.execute(
                select(outbox.c.payload).where(outbox.c.kind == "event").order_by(outbox.c.id)
            ).scalars()
            found = [_move(payload) for payload in rows]
            connection.execute(outbox.delete())
        return [move for move in found if move is not None]


def _move(payload: str) -> tuple[str | None, str, str] | None:
    event = read_out_event(payload)
    data: Any = event.data
    if event.type != "byok.key.status_changed.v1":
        return None
    return (data.old.value if data.old else None, data.new.value, data.reason)


@pytest.fixture
def upstream(app: App) -> Upstream:
    return Upstream(app)


def reason_of(app: App) -> str:
    with app.database.read() as connection:
        key = keys.find(connection, "key-1")
    assert key is not None
    return key.reason


def test_a_plan_that_loses_byok_says_so_of_each_key_and_one_that_gains_it_takes_it_back(
    app: App, upstream: Upstream
) -> None:
    upstream.plan("business")
    upstream.key()
    assert upstream.told() == [(None, "pending", "")]
    upstream.plan("pro")
    assert upstream.told() == [("pending", "pending", PLAN)]
    # The key's own reason is not overwritten.
    assert reason_of(app) == ""
    upstream.plan("business")
    assert upstream.told() == [("pending", "pending", "")]


def test_it_is_said_once_a_change_and_not_with_every_state_of_the_account(
    upstream: Upstream,
) -> None:
    upstream.plan("business")
    upstream.key()
    upstream.told()
    lost = upstream.plan("pro")
    assert len(upstream.told()) == 1
    upstream.deliver(lost)
    upstream.plan("starter")
    upstream.plan("pro")
    assert upstream.told() == []
    upstream.plan("enterprise")
    upstream.plan("business")
    assert len(upstream.told()) == 1


def test_a_plan_that_has_ended_is_one_without_byok(upstream: Upstream) -> None:
    upstream.plan("business")
    upstream.key()
    upstream.told()
    upstream.plan("business", PlanStatus.CANCELED)
    assert upstream.told() == [("pending", "pending", PLAN)]
    upstream.plan("business", PlanStatus.TRIAL)
    assert upstream.told() == [("pending", "pending", "")]


def test_a_late_state_of_the_account_is_no_news(upstream: Upstream) -> None:
    early = upstream.plan("pro")
    upstream.plan("business")
    upstream.key()
    upstream.told()
    upstream.deliver(early)
    assert upstream.told() == []


def test_a_key_that_is_added_on_a_plan_without_byok_is_kept_and_announced(
    app: App, upstream: Upstream
) -> None:
    upstream.plan("pro")
    upstream.key()
    # In this order: first that it is there, then that it is not used.
    assert upstream.told() == [(None, "pending", ""), ("pending", "pending", PLAN)]
    with app.database.read() as connection:
        stored = keys.stored_key(connection, "key-1")
    assert stored is not None
    opened = app.vault.open_key(stored, account="acme", provider="openai", key_id="key-1")
    assert opened == GOOD_OPENAI
    upstream.plan("business")
    assert upstream.told() == [("pending", "pending", "")]


def test_the_audit_trail_says_by_which_event(app: App, upstream: Upstream) -> None:
    upstream.plan("pro")
    upstream.key()
    upstream.plan("business")
    upstream.plan("pro")
    trail = [
        (e.cause, e.event_id, e.source, e.old_status, e.new_status, e.reason)
        for e in history_of(app.database, "key-1")
    ]
    assert trail == [
        ("added", "evt-2", "upstream", None, "pending", ""),
        ("plan_lacking", "evt-2", "upstream", "pending", "pending", PLAN),
        ("plan_gained", "evt-3", "upstream", "pending", "pending", ""),
        ("plan_lost", "evt-4", "upstream", "pending", "pending", PLAN),
    ]


@pytest.mark.parametrize("services", ["sqlite-valkey", "postgresql-valkey"], indirect=True)
def test_on_a_plan_without_byok_the_platform_pays_until_the_upgrade(road: Road) -> None:
    road.account(plan="pro", credits=5)
    key_id = road.give_key()
    paid = []
    for plan in ("pro", "business", "pro"):
        road.account(plan=plan, credits=5)
        mail = MAIL.model_copy(update={"text": f"Hi Bob, shall we have lunch? ({len(paid)}) Ann"})
        request = road.ended(road.ask(mail=mail))
        paid.append((request.credential, request.key_id, request.fallback_reason))
    assert paid == [("platform", None, "plan"), ("byok", key_id, None), ("platform", None, "plan")]
    moves = [
        (e["data"]["old"], e["data"]["new"], e["data"]["reason"])
        for e in road.out_events("key.status_changed")
    ]
    assert moves == [
        (None, "pending", ""),
        ("pending", "pending", PLAN),
        ("pending", "valid", "ok"),
        ("valid", "valid", "ok"),
        ("valid", "valid", PLAN),
    ]


@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
def test_the_command_shows_why_a_key_is_not_used(road: Road) -> None:
    road.account(plan="pro")
    road.give_key()
    code, told, _ = byok(road.app, "keys", "show", "acme", "--json")
    (key,) = told["keys"]
    assert (code, key["status"], key["reason"]) == (0, "valid", "ok")
    assert (key["usable"], key["unusable_reason"]) == (False, "plan")
    road.account(plan="business")
    (key,) = byok(road.app, "keys", "show", "acme", "--json")[1]["keys"]
    assert (key["usable"], key["unusable_reason"]) == (True, None)
