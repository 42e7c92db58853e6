"""Queues reorder and repeat: every delivery of the same events ends in the same state."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from events import (
    AccountDeleted,
    AccountUpdated,
    CreditPeriod,
    Envelope,
    EventData,
    EventRefused,
    KeyAdded,
    KeyRemoved,
    KeyReplaced,
    KeyTested,
    KeyUpdated,
    Provider,
    read_event,
    seal_key,
)
from store import accounts, keys, waiting
from store.schema import accounts as account_rows
from store.schema import key_slots, provider_keys, waiting_events
from tests.unit.workers.standins import clockwork_of, event_of
from workers import accounts as account_events
from workers.app import App
from workers.keys import lifecycle

PASTED = {
    Provider.OPENAI: "sk-proj-fake-not-a-real-key-",
    Provider.ANTHROPIC: "sk-ant-api03-fake-not-a-real-key-",
}
HANDLERS = {**account_events.HANDLERS.by_type, **lifecycle.HANDLERS.by_type}
PERIOD = CreditPeriod(
    start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(30)
)
Make = Callable[[App, str, int], EventData]
"""Makes one event: the app (its sealing key), the account, the revision."""

names = (f"acme-{number}" for number in count())


# What the system of record decides, as functions of the account it is decided for. Key ids get
# the account's name in front, because a key id belongs to one account for ever.


def account_updated(plan: str, *, consent: bool) -> Make:
    return lambda app, account, revision: AccountUpdated(
        revision=revision, plan=plan, ai_consent=consent, credits=revision, credit_period=PERIOD
    )


def account_deleted() -> Make:
    return lambda app, account, revision: AccountDeleted(revision=revision)


SHARED = "shared"
"""In place of a key's number: an id that the account uses for both providers."""


def key_id_of(account: str, provider: Provider, number: int | str) -> str:
    return f"{account}-{SHARED}" if number == SHARED else f"{account}-{provider}-{number}"


def key_given(
    kind: type[KeyAdded | KeyReplaced],
    provider: Provider,
    number: int | str,
    *,
    fallback: bool,
    ok: bool,
) -> Make:
    def make(app: App, account: str, revision: int) -> EventData:
        key_id = key_id_of(account, provider, number)
        pasted = PASTED[provider] + f"{revision:04}" if ok else "no key at all"
        return kind(
            revision=revision,
            provider=provider,
            key_id=key_id,
            allow_platform_fallback=fallback,
            sealed_key=seal_key(
                pasted,
                app.settings.sealing_public,
                account=account,
                provider=provider,
                key_id=key_id,
            ),
        )

    return make


def key_updated(provider: Provider, number: int | str, *, fallback: bool) -> Make:
    return lambda app, account, revision: KeyUpdated(
        revision=revision,
        key_id=key_id_of(account, provider, number),
        allow_platform_fallback=fallback,
        budget_usd=revision,
    )


def key_removed(provider: Provider, number: int | str) -> Make:
    return lambda app, account, revision: KeyRemoved(
        revision=revision, provider=provider, key_id=key_id_of(account, provider, number)
    )


def key_tested(provider: Provider, number: int | str) -> Make:
    return lambda app, account, revision: KeyTested(key_id=key_id_of(account, provider, number))


providers = st.sampled_from(Provider)
numbers: st.SearchStrategy[int | str] = st.one_of(st.integers(1, 3), st.just(SHARED))
live_changes: st.SearchStrategy[Make] = st.one_of(
    st.builds(account_updated, st.sampled_from(["free", "business"]), consent=st.booleans()),
    st.builds(
        key_given,
        st.sampled_from([KeyAdded, KeyReplaced]),
        providers,
        numbers,
        fallback=st.booleans(),
        ok=st.sampled_from([True, True, True, False]),
    ),
    st.builds(key_updated, providers, numbers, fallback=st.booleans()),
    st.builds(key_removed, providers, numbers),
    st.builds(key_tested, providers, numbers),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Make]:
    """What happened to one account, in its order: one or two lives, the last one maybe over."""
    history: list[Make] = []
    for _ in range(draw(st.integers(1, 2))):
        if history:
            history.append(account_deleted())
        history.append(account_updated("business", consent=True))
        history.extend(draw(st.lists(live_changes, max_size=5)))
    if draw(st.sampled_from([False, False, True])):
        history.append(account_deleted())
    return history


def apply(app: App, envelope: Envelope) -> None:
    """What a worker does with an event, without the queue."""
    handler = HANDLERS[type(envelope.data)]
    try:
        handler(app, envelope, envelope.data)
    except EventRefused as refused:
        # It is set aside, and its publisher is told.
        if refused.reason != "key_id_taken":
            raise


def wake(app: App) -> None:
    """What the scheduler does with events that waited for their account."""
    now = app.effects.now_ms()
    with app.database.write() as connection:
        due = waiting.take_due(connection, now, 100)
    for event in due:
        apply(app, read_event(event.envelope))


def deliver(app: App, account: str, history: list[Make], order: list[int]) -> None:
    """Deliver the events of a history in an order that may repeat, then let the dust settle."""
    envelopes = {
        number: event_of(
            history[number](app, account, number + 1),
            account=account,
            event_id=f"{account}-event-{number}",
        )
        for number in set(order)
    }
    for number in order:
        apply(app, envelopes[number])
        wake(app)
    for _ in range(2):
        clockwork_of(app).pass_time(waiting.RESEND_SECONDS + 1)
        wake(app)


def state_of(app: App, account: str) -> dict[str, Any]:
    """What matters of an account and its keys; times and histories aside, ids without its name."""

    def anonymous(text: str | None) -> str | None:
        return None if text is None else text.replace(account, "ACCOUNT")

    with app.database.read() as connection:
        row = connection.execute(
            select(account_rows).where(account_rows.c.account_id == account)
        ).one()
        slots = connection.execute(
            select(key_slots).where(
                key_slots.c.account_id == account,
                # A slot of a life that is over is void.
                key_slots.c.revision > row.deleted_revision,
            )
        ).all()
        active = keys.active(connection, account)
        secrets = {key.key_id: keys.stored_key(connection, key.key_id) for key in active.values()}
        ciphertexts = connection.execute(
            select(provider_keys.c.key_id).where(
                provider_keys.c.account_id == account, provider_keys.c.ciphertext.is_not(None)
            )
        ).scalars()
        kept = {anonymous(key_id) for key_id in ciphertexts}
        waits = connection.execute(
            select(waiting_events.c.event_id).where(waiting_events.c.account_id == account)
        ).scalars()
        return {
            "account": {
                name: anonymous(value) if isinstance(value, str) else value
                for name, value in row._mapping.items()
                if name not in ("account_id", "updated_at")
            },
            "known": accounts.find(connection, account) is not None,
            "slots": {slot.provider: (slot.revision, anonymous(slot.key_id)) for slot in slots},
            "active": {
                provider: {
                    "key_id": anonymous(key.key_id),
                    "revision": key.revision,
                    "status": key.status,
                    "reason": key.reason,
                    "last4": key.last4,
                    "fallback": key.allow_platform_fallback,
                    "secret": (stored := secrets[key.key_id])
                    and app.vault.open_key(
                        stored, account=account, provider=provider, key_id=key.key_id
                    ),
                }
                for provider, key in active.items()
            },
            "secrets kept": kept,
            "waiting": {anonymous(event_id) for event_id in waits},
        }


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Make], list[int]]:
    """A history, and an order in which each of its events arrives at least once."""
    history = draw(histories())
    repeats = draw(st.lists(st.integers(0, len(history) - 1), max_size=4))
    return history, draw(st.permutations([*range(len(history)), *repeats]))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(delivery=deliveries())
def test_every_order_and_repetition_ends_in_the_state_of_the_revisions_order(
    app: App, delivery: tuple[list[Make], list[int]]
) -> None:
    history, order = delivery
    straight, crooked = next(names), next(names)
    deliver(app, straight, history, list(range(len(history))))
    deliver(app, crooked, history, order)
    assert state_of(app, crooked) == state_of(app, straight)


OPENAI = Provider.OPENAI
UPDATED = account_updated("business", consent=True)


@pytest.mark.parametrize(
    ("history", "order"),
    [
        pytest.param(
            [UPDATED, account_deleted(), UPDATED, key_given(KeyAdded, OPENAI, 1, **f)],
            order,
            id=name,
        )
        for name, order, f in [
            ("the-key-before-its-account", [3, 0, 1, 2], {"fallback": True, "ok": True}),
            ("the-key-then-the-deletion", [3, 1, 2, 0], {"fallback": True, "ok": True}),
            ("the-key-in-the-life-before", [0, 3, 1, 2], {"fallback": True, "ok": True}),
            ("the-deletion-last", [0, 2, 3, 1], {"fallback": True, "ok": True}),
            ("backwards", [3, 2, 1, 0], {"fallback": True, "ok": True}),
        ]
    ],
)
def test_a_late_deletion_takes_nothing_of_the_life_after_it(
    app: App, history: list[Make], order: list[int]
) -> None:
    deliver(app, "crooked", history, order)
    state = state_of(app, "crooked")
    assert state["known"]
    assert state["active"]["openai"]["fallback"] is True
    assert state["active"]["openai"]["key_id"] == "ACCOUNT-openai-1"


def test_a_deletion_destroys_every_secret_of_the_life_before_it(app: App) -> None:
    history = [UPDATED, key_given(KeyAdded, OPENAI, 1, fallback=False, ok=True), account_deleted()]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 1, 2, 1, 0]):
        account = next(names)
        deliver(app, account, history, order)
        state = state_of(app, account)
        assert not state["known"]
        assert state["active"] == {}
        assert state["secrets kept"] == set()


def test_a_removal_counts_also_before_its_key_is_known(app: App) -> None:
    history = [
        UPDATED,
        key_given(KeyAdded, OPENAI, 1, fallback=False, ok=True),
        key_removed(OPENAI, 1),
    ]
    deliver(app, "acme", history, [2, 1, 0, 1])
    state = state_of(app, "acme")
    assert state["slots"] == {"openai": (3, None)}
    assert state["active"] == {}
    assert state["secrets kept"] == set()


def test_a_replaced_key_leaves_no_secret_behind(app: App) -> None:
    history = [
        UPDATED,
        key_given(KeyAdded, OPENAI, 1, fallback=False, ok=True),
        key_given(KeyReplaced, OPENAI, 2, fallback=False, ok=True),
    ]
    for order in ([0, 1, 2], [0, 2, 1], [2, 1, 0]):
        account = next(names)
        deliver(app, account, history, order)
        state = state_of(app, account)
        assert state["secrets kept"] == {"ACCOUNT-openai-2"}
        assert state["active"]["openai"]["last4"] == "0003"


def test_settings_that_come_before_their_key_count(app: App) -> None:
    history = [
        UPDATED,
        key_given(KeyAdded, OPENAI, 1, fallback=False, ok=True),
        key_updated(OPENAI, 1, fallback=True),
    ]
    deliver(app, "acme", history, [0, 2, 1])
    assert state_of(app, "acme")["active"]["openai"]["fallback"] is True


def test_a_key_under_the_same_id_again_is_the_newer_key(app: App) -> None:
    history = [
        UPDATED,
        key_given(KeyAdded, OPENAI, 1, fallback=False, ok=True),
        key_removed(OPENAI, 1),
        key_given(KeyAdded, OPENAI, 1, fallback=False, ok=True),
    ]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [0, 3, 1, 2]):
        account = next(names)
        deliver(app, account, history, order)
        state = state_of(app, account)
        assert state["active"]["openai"]["secret"] == PASTED[OPENAI] + "0004"
        assert state["active"]["openai"]["status"] == "pending"


ANTHROPIC = Provider.ANTHROPIC


@pytest.mark.parametrize("order", [*permutations(range(1, 4))], ids=str)
@pytest.mark.parametrize("last", [key_removed(OPENAI, SHARED), key_removed(ANTHROPIC, 1)])
def test_one_id_for_two_providers_is_the_later_keys_in_every_order(
    app: App, last: Make, order: tuple[int, ...]
) -> None:
    history = [
        UPDATED,
        key_given(KeyAdded, OPENAI, SHARED, fallback=False, ok=True),
        key_given(KeyAdded, ANTHROPIC, SHARED, fallback=False, ok=True),
        last,
    ]
    straight, crooked = next(names), next(names)
    deliver(app, straight, history, [0, 1, 2, 3])
    deliver(app, crooked, history, [0, *order])
    state = state_of(app, crooked)
    assert state == state_of(app, straight)
    assert "openai" not in state["active"]


def test_a_key_id_that_another_account_claims_at_the_same_time_is_not_taken_over(
    app: App,
) -> None:
    with app.database.write() as connection:
        claim = {"provider": "openai", "event_id": "e"}
        assert keys.claim_id(connection, "acme", "key-1", revision=1, **claim) == "openai"
        with pytest.raises(keys.KeyIdTaken):
            keys.claim_id(connection, "thief", "key-1", revision=9, **claim)
        assert keys.claim_id(connection, "acme", "key-1", revision=2, **claim) == "openai"


def test_of_two_events_of_one_revision_the_higher_id_wins_byte_by_byte(app: App) -> None:
    # By the rules of most languages `a` is before `B`; by its bytes it is after.
    with app.database.write() as connection:
        if connection.dialect.name == "postgresql":
            # Where PostgreSQL was built without ICU, to compare by this collation is an error.
            for table in ("key_slots", "key_settings", "accounts", "key_ids"):
                connection.execute(
                    text(f'ALTER TABLE {table} ALTER event_id TYPE varchar(160) COLLATE "unicode"')
                )
        for order in (("a", "B"), ("B", "a")):
            account = next(names)
            for event_id in order:
                keys.take_slot(
                    connection, account, "openai", key_id=event_id, revision=1, event_id=event_id
                )
            slot = connection.execute(
                select(key_slots.c.key_id).where(key_slots.c.account_id == account)
            ).scalar_one()
            assert slot == "a"
        connection.rollback()
