"""Faults that a live system is put through, and the alerts that each must fire."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

import psutil
from sqlalchemy import select, update
from sqlalchemy.sql.elements import ColumnElement

from events import (
    AccountDeleted,
    BrokerAway,
    KeyTested,
    Operation,
    Provider,
    ProviderChoice,
)
from store import budgets, months, pauses
from store.accounts import NANO
from store.schema import analyses, budget_months, data_keys, provider_keys
from store.statements import insert_ignore
from tests.integration.process.running import Up, until
from tests.road import GOOD_ANTHROPIC, GOOD_OPENAI, MAIL
from workers.settings import SANDBOX_PLATFORM_KEYS

MANY_KEYS = 12
PLENTY = 30
PLATFORM_BUDGET_USD = 1_000
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the system, how it is undone, and which alerts tell of it."""

    what: str
    alerts: tuple[str, ...]
    inject: Callable[[Up], None]
    heal: Callable[[Up], None]


def prepare(up: Up) -> None:
    """Accounts, keys, and one analysis of each kind, all of it well."""
    road = up.road
    names = [
        "acme",
        "busy",
        "tampered",
        "refused",
        "silent",
        *(f"many-{n}" for n in range(MANY_KEYS)),
    ]
    for name in names:
        road.account(name, credits=None, consent=name != "silent")
    road.account("thrifty", credits=None, budget_usd="0")
    road.give_key(GOOD_OPENAI, "acme")
    road.give_key(GOOD_ANTHROPIC, "acme")
    road.give_key(f"{GOOD_ANTHROPIC}-busy", "busy")
    for number in range(MANY_KEYS):
        key_id = f"key-many-{number}"
        road.give_key(f"{GOOD_OPENAI}-{number}", f"many-{number}", key_id=key_id, settled=False)
    asked = [("acme", road.ask("acme")) for _ in range(3)]
    asked += [
        ("acme", road.ask("acme", operation=operation))
        for operation in (Operation.SUMMARIZE, Operation.REPLY)
    ]
    asked += [("acme", road.ask("acme", provider=ProviderChoice.ANTHROPIC)) for _ in range(2)]
    asked += [("refused", road.ask("refused", provider=ProviderChoice.OPENAI)) for _ in range(2)]
    asked += [("silent", road.ask("silent")), ("tampered", road.ask("tampered"))]
    for account, request_id in asked:
        road.ended(request_id, account)
    until(lambda: up.metric("byok_keys", status="valid") == MANY_KEYS + 3, "all keys are valid")


@contextmanager
def load(up: Up) -> Iterator[None]:
    """An account that asks for an analysis five times a second, whatever else happens.

    Every fifth is about a mail that it has asked about before.
    """
    stop = threading.Event()
    ask = up.road.ask

    def go_on() -> None:
        for number in count():
            if stop.wait(0.2):
                return
            with suppress(BrokerAway):
                again = None if number % 5 else MAIL
                ask("busy", mail=again, provider=ProviderChoice.ANTHROPIC)

    thread = threading.Thread(target=go_on, name="load")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _refuse_platform(up: Up) -> None:
    up.sandbox.fault("invalid", key=SANDBOX_PLATFORM_KEYS[Provider.ANTHROPIC])
    up.road.ask("refused", provider=ProviderChoice.ANTHROPIC)


def _accept_platform(up: Up) -> None:
    up.sandbox.fault("none", key=SANDBOX_PLATFORM_KEYS[Provider.ANTHROPIC])
    # What waits would come back within 15 minutes; a deleted account waits for nothing.
    up.road.publish(AccountDeleted(revision=up.road.revision()), "refused")


def _send_junk(up: Up) -> None:
    for number in range(PLENTY):
        up.push("keys", f"no message at all {number}")


def _drop_junk(up: Up) -> None:
    assert up.byok("failed", "drop", "--all").code == 0


def _tamper(up: Up) -> None:
    road = up.road
    with up.app.database.write() as connection:
        column = data_keys.c.wrapped_key
        mine = data_keys.c.scope.contains("tampered")
        wrapped = connection.execute(select(column).where(mine)).scalar_one()
        connection.execute(update(data_keys).where(mine).values(wrapped_key=_flipped(wrapped)))
    road.ask("tampered")


def _mend(up: Up) -> None:
    with up.app.database.write() as connection:
        mine = data_keys.c.scope.contains("tampered")
        wrapped = connection.execute(select(data_keys.c.wrapped_key).where(mine)).scalar_one()
        connection.execute(update(data_keys).where(mine).values(wrapped_key=_flipped(wrapped)))
    assert up.byok("failed", "drop", "--all").code == 0


def _flipped(wrapped: bytes) -> bytes:
    return wrapped[:-1] + bytes([wrapped[-1] ^ 1])


def _go_off_schema(up: Up) -> None:
    up.sandbox.fault("offschema", provider="openai", endpoint="completion")
    for _ in range(PLENTY):
        up.road.ask("acme", provider=ProviderChoice.OPENAI)


def _keep_schema(up: Up) -> None:
    up.sandbox.fault("none", provider="openai", endpoint="completion")
    up.road.ask("acme", provider=ProviderChoice.OPENAI)


def _test_keys(up: Up) -> None:
    for number in range(MANY_KEYS):
        up.road.publish(KeyTested(key_id=f"key-many-{number}"), f"many-{number}")


def _revoke(up: Up) -> None:
    up.sandbox.fault("revoked", provider="openai", endpoint="models")
    _test_keys(up)


def _restore(up: Up) -> None:
    up.sandbox.fault("none", provider="openai", endpoint="models")
    _test_keys(up)


def _ask_without_budget(up: Up) -> None:
    for _ in range(PLENTY):
        up.road.ask("thrifty", provider=ProviderChoice.OPENAI)


def _spend_platform_budget(up: Up) -> None:
    _spend(up, budget_months.c.spent_nano_usd + PLATFORM_BUDGET_USD * NANO)


def _refund_platform_budget(up: Up) -> None:
    _spend(up, budget_months.c.spent_nano_usd - PLATFORM_BUDGET_USD * NANO)


def _spend(up: Up, spent: ColumnElement[int]) -> None:
    now = up.app.effects.now_ms()
    platform = {"scope": budgets.PLATFORM, "month": months.name(months.of_ms(now))}
    with up.app.database.write() as connection:
        insert_ignore(connection, budget_months, platform)
        connection.execute(
            update(budget_months)
            .where(*(budget_months.c[name] == value for name, value in platform.items()))
            .values(spent_nano_usd=spent, reached_at=now)
        )


def _forget_pause(up: Up) -> None:
    made = pauses.Pause(
        kind=pauses.ACCOUNT,
        name="silent",
        at=up.app.effects.now_ms() - DAY_MS,
        source="test",
        note="an incident that is over",
        resumed_at=None,
    )
    with up.app.database.write() as connection:
        pauses.pause(connection, made, up.app.effects.new_id())


def _remember_pause(up: Up) -> None:
    assert up.byok("resume", "account", "silent").code == 0


def _ask_unpriced(up: Up) -> None:
    up.road.ask("acme", provider=ProviderChoice.ANTHROPIC, model="claude-without-a-price")


def _nothing(up: Up) -> None:
    del up


def _freeze(up: Up, role: str) -> None:
    child = up.child(role)
    # Frozen with SQLite's one write lock in its hands, it would freeze all others too.
    with up.app.database.write():
        child.send_signal(signal.SIGSTOP)
        until(lambda: child.status() == psutil.STATUS_STOPPED, f"the {role} is frozen")


def _thaw(up: Up, role: str) -> None:
    with suppress(psutil.Error):
        up.child(role).send_signal(signal.SIGCONT)


def _freeze_scheduler(up: Up) -> None:
    _freeze(up, "scheduler")
    with up.app.database.write() as connection:
        late = up.app.effects.now_ms() - 3_600_000
        connection.execute(
            update(provider_keys)
            .where(provider_keys.c.key_id == "key-many-0")
            .values(validate_at=late)
        )
        ended = select(analyses.c.request_id).where(analyses.c.finished_at.is_not(None)).limit(1)
        connection.execute(
            update(analyses)
            .where(analyses.c.request_id == ended.scalar_subquery())
            .values(finished_at=up.app.effects.now_ms() - 200 * DAY_MS)
        )
    # What ends now leaves its out-event in the outbox.
    request_id = up.road.ask("acme", provider=ProviderChoice.ANTHROPIC)
    up.road.ended(request_id, "acme")


def _freeze_worker(up: Up) -> None:
    _freeze(up, "worker")
    up.road.ask("acme")
    _test_keys(up)


def _lose_answers(up: Up) -> None:
    up.sandbox.gate(closed=True)
    for _ in range(PLENTY):
        up.road.ask("acme", provider=ProviderChoice.ANTHROPIC)
    up.sandbox.wait_in_flight(8)
    for role in ("worker", "scheduler"):
        up.child(role).kill()


def _open_gate(up: Up) -> None:
    up.sandbox.gate(closed=False)


def _break_provider(up: Up) -> None:
    up.sandbox.fault("error500", provider="openai")
    for _ in range(PLENTY):
        up.road.ask("acme", provider=ProviderChoice.OPENAI)
    until(
        lambda: up.metric("byok_provider_breaker", provider="openai", state="open") == 1,
        "the breaker is open",
    )


def _mend_provider(up: Up) -> None:
    up.sandbox.clear_faults()


def _freeze_valkey(up: Up) -> None:
    _valkey(up).send_signal(signal.SIGSTOP)


def _thaw_valkey(up: Up) -> None:
    _valkey(up).send_signal(signal.SIGCONT)


def _valkey(up: Up) -> psutil.Process:
    servers = [p for p in up.processes() if "valkey-server" in " ".join(p.cmdline())]
    return servers[0]


QUICK = (
    Fault(
        "Anthropic refuses the platform's key",
        ("ByokPlatformKeyRefused",),
        _refuse_platform,
        _accept_platform,
    ),
    Fault("a publisher sends junk", ("ByokMessagesSetAside",), _send_junk, _drop_junk),
    Fault(
        "an account's data key is altered in the database",
        ("ByokStoredValuesDoNotOpen", "ByokMessagesFailInside"),
        _tamper,
        _mend,
    ),
    Fault(
        "OpenAI's model does not keep to the schema",
        ("ByokProviderErrors", "ByokAnalysesFailFast"),
        _go_off_schema,
        _keep_schema,
    ),
    Fault("OpenAI takes all keys for revoked", ("ByokKeysTurnInvalid",), _revoke, _restore),
    Fault(
        "a request names a model without a price", ("ByokCallsUnpriced",), _ask_unpriced, _nothing
    ),
    Fault(
        "an account asks although its budget is used up",
        ("ByokBudgetsHoldBack",),
        _ask_without_budget,
        _nothing,
    ),
    Fault("a pause is forgotten", ("ByokPauseForgotten",), _forget_pause, _remember_pause),
)
"""Faults that are seen at once; they are put into the system together."""

FROZEN = (
    Fault(
        "the scheduler is frozen",
        ("ByokNoScheduler", "ByokOutboxStuck", "ByokValidationsLate", "ByokKeptTooLong"),
        _freeze_scheduler,
        lambda up: _thaw(up, "scheduler"),
    ),
    Fault(
        "the worker is frozen",
        ("ByokNoWorker", "ByokQueueStuck", "ByokChangesStuck"),
        _freeze_worker,
        lambda up: _thaw(up, "worker"),
    ),
    Fault(
        "the platform's budget is spent",
        ("ByokPlatformBudgetUsedUp",),
        _spend_platform_budget,
        _refund_platform_budget,
    ),
)
BLIND = (
    Fault(
        "the exporter is frozen",
        ("ByokExporterDown",),
        lambda up: _freeze(up, "exporter"),
        lambda up: _thaw(up, "exporter"),
    ),
)
KILLED = (
    Fault(
        "worker and scheduler are killed with calls under way",
        ("ByokWorkersDie", "ByokAnswersLost"),
        _lose_answers,
        _open_gate,
    ),
)
OUTAGE = (
    Fault(
        "OpenAI is out",
        ("ByokProviderDown",),
        _break_provider,
        _mend_provider,
    ),
)
NO_QUEUE = (
    Fault(
        "Valkey is frozen: queue and stream",
        ("ByokBrokerDown", "ByokRedisDown"),
        _freeze_valkey,
        _thaw_valkey,
    ),
)
