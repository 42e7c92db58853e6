"""What waits in the store, as the gauges show it."""

from collections.abc import Mapping

from metrics import gauges
from metrics.gauges import Gauge
from store import analyses, keys, leases, outbox, setaside, waiting
from store.backlog import LATE_SECONDS
from store.outbox import OutboxRow
from tests.unit.workers.standins import clockwork_of
from workers.app import App
from workers.gauges import Gauges
from workers.keychanges import cause_of

HOUR = 3600.0


def shown(app: App) -> dict[Gauge, Mapping[tuple[str, ...], float]]:
    """The store's gauges as they stand."""
    reading = Gauges(app)
    found = (*reading.read_database(), *reading.read_counts())
    return {read.gauge: read.samples for read in found}


def an_hour_later(app: App) -> dict[Gauge, Mapping[tuple[str, ...], float]]:
    """The store's gauges an hour from now."""
    clockwork_of(app).now += int(HOUR * 1000)
    return shown(app)


def accept(app: App, request_id: str, *, expires_at: int = 2**52) -> analyses.Request:
    """Write a request that waits for a worker."""
    with app.database.write() as connection:
        fresh = analyses.NewRequest(
            account_id="acme",
            request_id=request_id,
            event_id=request_id,
            digest=b"d",
            operation="classify",
            provider_wanted="auto",
            model_wanted=None,
            input=b"sealed",
            created_at=app.effects.now_ms(),
            expires_at=expires_at,
        )
        assert analyses.accept(connection, fresh)
        found = analyses.find(connection, "acme", request_id)
    assert found is not None
    return found


def test_requests_are_counted_by_why_they_wait_and_by_whose_key_they_run_on(app: App) -> None:
    now = app.effects.now_ms()
    accept(app, "due")
    parked = accept(app, "parked")
    odd = accept(app, "odd")
    running = accept(app, "running")
    with app.database.write() as connection:
        analyses.park(connection, parked, reason="rate_limited", due_at=2**52)
        analyses.park(connection, odd, reason="of_another_version", due_at=2**52)
        leases.register(connection, "p", role="worker", host="h", pid=1, now=now)
        analyses.claim(
            connection,
            running,
            process_id="p",
            provider="openai",
            model="m",
            credential="byok",
            key_id="k",
            fallback_reason=None,
            credit_period_at=None,
            budget_held=False,
            prompt_version="v",
            now=now,
        )
        claimed = analyses.find(connection, "acme", "running")
        assert claimed is not None
        analyses.give_up_attempt(connection, claimed, "worker_lost", now)
    found = an_hour_later(app)
    assert found[gauges.QUEUE_DEPTH]["analyses", "store"] == 1
    assert found[gauges.QUEUE_AGE]["analyses", "store"] == HOUR
    waits = {key: count for key, count in found[gauges.WAITING].items() if count}
    assert waits == {("queued",): 1, ("rate_limited",): 1, ("other",): 1}
    assert found[gauges.WAITING_AGE]["rate_limited",] == HOUR
    runs = {key: count for key, count in found[gauges.RUNNING].items() if count}
    assert runs == {("openai", "byok"): 1}
    assert found[gauges.UNKNOWN] == {(): 1}


def test_the_outbox_what_waits_for_its_account_and_what_is_set_aside_are_counted(
    app: App,
) -> None:
    now = app.effects.now_ms()
    with app.database.write() as connection:
        outbox.add(connection, outbox.USAGE, [OutboxRow("u1", "{}"), OutboxRow("u2", "{}")], now)
        event = waiting.WaitingEvent(
            event_id="e", account_id="acme", queue="keys", envelope="{}", until_at=now
        )
        waiting.put(connection, event)
        item = setaside.SetAside(
            id="s",
            at=now,
            queue="keys",
            reason="not_json",
            sentence="",
            event_id=None,
            event_type=None,
            account_id=None,
        )
        setaside.put(connection, app.vault, item, b"payload")
    found = an_hour_later(app)
    assert found[gauges.OUTBOX_ROWS] == {("usage",): 2, ("event",): 0, ("rewrite",): 0}
    assert found[gauges.OUTBOX_AGE]["usage",] == HOUR
    assert found[gauges.QUEUE_DEPTH]["usage", "store"] == 2
    assert found[gauges.QUEUE_DEPTH]["keys", "store"] == 1
    assert found[gauges.SET_ASIDE] == {("keys", "not_json"): 1}


def test_a_key_whose_validation_nobody_makes_is_due_and_then_late(app: App) -> None:
    at = app.effects.now_ms() + LATE_SECONDS * 1000
    with app.database.write() as connection:
        keys.put(
            connection,
            account_id="acme",
            provider="openai",
            key_id="k",
            revision=1,
            status="valid",
            reason="ok",
            stored=None,
            fingerprint=None,
            last4="0001",
            validate_at=at,
            cause=cause_of(app, "added"),
        )
    clock = clockwork_of(app)
    for now, due, late in ((at - 1, 0, 0), (at, 1, 0), (at + 2 * LATE_SECONDS * 1000, 1, 1)):
        clock.now = now
        found = shown(app)
        assert found[gauges.KEYS] == {("openai", "valid", "ok"): 1}
        assert found[gauges.VALIDATIONS_DUE] == {("openai",): due, ("anthropic",): 0}
        assert found[gauges.VALIDATIONS_LATE] == {("openai",): late, ("anthropic",): 0}
        assert found[gauges.QUEUE_DEPTH]["validations", "store"] == due


def test_processes_are_counted_by_role(app: App) -> None:
    now = app.effects.now_ms()
    assert shown(app)[gauges.PROCESSES] == {("worker",): 0, ("scheduler",): 0}
    with app.database.write() as connection:
        leases.register(connection, "p", role="worker", host="h", pid=1, now=now)
    assert shown(app)[gauges.PROCESSES] == {("worker",): 1, ("scheduler",): 0}
