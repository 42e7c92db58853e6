"""The queue's traps, our answer to each, and the tests that fail without it.

Each mutant takes one answer out of the running system by a patch; `python -m tests.mutants` runs
the named tests under it and demands that one of them fails. How each failed is printed, and is in
`docs/traps.md`.
"""

import dataclasses
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, TimeLimit
from sqlalchemy import Connection

import events.broker
from store import accounts, analyses, budgets, outbox, vault
from store.pauses import Paused
from store.statements import insert_ignore
from workers import boundary, logs, relay, scheduler, settings, worker
from workers.analyses import spending
from workers.app import App
from workers.broker import rabbitmq
from workers.broker import redis as redis_broker
from workers.pacing import permits, shares
from workers.pauses import PauseWatch

Patch = Callable[[], AbstractContextManager[object]]

CONSUMER = "tests/unit/workers/test_redis_consumer.py::"
TRAPS = "tests/integration/traps/test_traps.py::"
SETTINGS = "tests/unit/workers/test_settings.py::"
ATTEMPTS = "tests/unit/workers/analyses/test_attempts.py::"
HISTORIES = (
    "tests/simulation/test_simulation.py::"
    "test_whatever_happens_the_invariants_hold_and_all_drains[{first}]"
)
ALL_HISTORIES = tuple(HISTORIES.format(first=first) for first in range(0, 80, 10))
FLOOD = (
    "tests/simulation/test_simulation.py::"
    "test_a_flood_delays_no_other_account_and_no_consent_or_removal"
)


@dataclass(frozen=True)
class Mutant:
    """One answer taken out."""

    trap: int
    """The number in `docs/traps.md`; 0 where it is an invariant's, and no trap of the queue."""
    taken_out: str
    patch: Patch
    tests: tuple[str, ...]


def swapped(holder: Any, name: str, value: Any) -> Patch:
    """A patch that puts `value` in place of an attribute."""
    return lambda: patch.object(holder, name, value)


def without_sweep(name: str) -> Patch:
    """A scheduler that does not sweep for one thing."""
    rest = tuple(sweep for sweep in scheduler.SWEEPS if sweep.__name__ != name)
    return swapped(scheduler, "SWEEPS", rest)


def _keep_all_options(read: Callable[..., Any]) -> Callable[..., Any]:
    def read_message(broker: Any, queue: str, data: bytes) -> Any:
        message = read(broker, queue, data)
        return message and message.copy(options=Message.decode(data).options)

    return read_message


def _one_group(app: App, real: Callable[[App], list[worker.Group]] = worker.groups) -> Any:
    return [
        dataclasses.replace(group, name="one", threads=app.settings.analysis_threads)
        for group in real(app)
    ]


@contextmanager
def _no_confirms() -> Iterator[None]:
    def unconfirmed(broker: type) -> Any:
        def make(**options: Any) -> Any:
            return broker(**options | {"confirm_delivery": False})

        return make

    worker_init = rabbitmq.RabbitmqBroker.__init__

    def init(self: Any, **options: Any) -> None:
        worker_init(self, **options | {"confirm_delivery": False})

    with (
        patch.object(rabbitmq.RabbitmqBroker, "__init__", init),
        patch.object(events.broker, "RabbitmqBroker", unconfirmed(events.broker.RabbitmqBroker)),
    ):
        yield


@contextmanager
def _permits_for_good() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory:
        for script in permits._HERE.glob("*.lua"):
            text = "\n".join(
                line
                for line in script.read_text().splitlines()
                if "ZREMRANGEBYSCORE" not in line and "PEXPIRE', held" not in line
            )
            (Path(directory) / script.name).write_text(text)
        with patch.object(permits, "_HERE", Path(directory)):
            yield


@contextmanager
def _logged_as_dramatiq_likes() -> Iterator[None]:
    real = logs.set_up

    def set_up(level: str) -> None:
        real(level)
        logging.getLogger("dramatiq").setLevel(logging.DEBUG)

    with patch.object(logs, "set_up", set_up):
        yield


def _with_middleware(extra: Callable[[], Any]) -> Patch:
    real = worker.open_worker

    def open_worker(*arguments: Any) -> Any:
        opened = real(*arguments)
        opened.broker.middleware.append(extra())
        return opened

    return swapped(worker, "open_worker", open_worker)


@contextmanager
def _consents_always() -> Iterator[None]:
    real = accounts.find

    def find(*arguments: Any) -> Any:
        found = real(*arguments)
        return found and dataclasses.replace(found, ai_consent=True)

    with patch.object(accounts, "find", find):
        yield


def _one_connection_for_each_two_threads(url: str, **options: Any) -> Any:
    return _open_client(url, **options | {"max_connections": options["max_connections"] // 4})


_open_client = redis_broker.redis_client


@contextmanager
def _usage_cleared_when_sent() -> Iterator[None]:
    real = relay._publish

    def publish(app: App, rows: Any) -> None:
        with app.database.write() as connection:
            outbox.clear(connection, [row.id for row in rows])
        real(app, rows)

    with patch.object(relay, "_publish", publish):
        yield


@contextmanager
def _built_before_it_is_asked_for() -> Iterator[None]:
    real = App.__init__

    def build(self: App, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        self.publisher  # noqa: B018 -- reading it builds it

    with patch.object(App, "__init__", build):
        yield


def _metrics_of_dramatiq() -> Any:
    from dramatiq.middleware.prometheus import Prometheus  # noqa: PLC0415 -- sets itself up

    return Prometheus()


def _passes_budgets(connection: Connection, budget: budgets.Budget, nano_usd: int) -> bool:
    insert_ignore(connection, budgets.budget_months, {"scope": budget.scope, "month": budget.month})
    budgets._move(connection, budget.scope, budget.month, reserved=nano_usd)
    return True


def _binds_nothing(*_: str) -> bytes:
    return b"the same for all"


def _never(*_: Any, **__: Any) -> None:
    return None


def _one_nano_dollar(*_: Any) -> int:
    return 1


def _end_attempt_always(*_: Any, **__: Any) -> bool:
    return True


MUTANTS = (
    Mutant(
        1,
        "what is due is not sent again from the store",
        without_sweep("due_analyses"),
        (HISTORIES.format(first=0),),
    ),
    Mutant(
        2,
        "a message's time and other options are believed",
        swapped(redis_broker, "read_message", _keep_all_options(redis_broker.read_message)),
        (CONSUMER + "test_a_time_in_a_message_does_not_park_it_in_this_process",),
    ),
    Mutant(
        3,
        "no new identity after a fetch was lost",
        swapped(redis_broker.RedisWorkerBroker, "renew_identity", lambda _: None),
        (CONSUMER + "test_a_fetch_that_fails_gives_the_process_a_new_identity",),
    ),
    Mutant(
        4,
        "workers do no maintenance",
        swapped(redis_broker, "MAINTENANCE_CHANCE", 0),
        (TRAPS + "test_what_a_dead_worker_had_taken_comes_to_another",),
    ),
    Mutant(
        4,
        "publishers do maintenance",
        swapped(
            events.broker,
            "RedisBroker",
            lambda **options: RedisBroker(**options | {"maintenance_chance": 1_000_000}),
        ),
        (TRAPS + "test_a_publisher_moves_no_messages_of_workers",),
    ),
    Mutant(
        5,
        "a completion is not fenced: an attempt may end twice",
        swapped(analyses, "end_attempt", _end_attempt_always),
        (HISTORIES.format(first=0), HISTORIES.format(first=10)),
    ),
    Mutant(
        6,
        "attempts whose answer was lost are not counted",
        swapped(scheduler, "UNKNOWN_ALLOWED", 1_000_000),
        (ATTEMPTS + "test_a_request_that_kills_its_workers_is_given_up",),
    ),
    Mutant(
        7,
        "consent is not looked at in the claim",
        _consents_always,
        (HISTORIES.format(first=0), HISTORIES.format(first=10)),
    ),
    Mutant(
        8,
        "fewer connections than threads",
        swapped(redis_broker, "redis_client", _one_connection_for_each_two_threads),
        (TRAPS + "test_every_thread_and_consumer_has_a_connection_of_its_own",),
    ),
    Mutant(
        9,
        "what is under way is not counted against the prefetch",
        swapped(redis_broker.Consumer, "outstanding_message_count", 0),
        (CONSUMER + "test_no_more_is_fetched_than_there_is_room_for",),
    ),
    Mutant(
        9,
        "a worker prefetches for a thousand threads",
        swapped(worker.dramatiq.worker, "QUEUE_PREFETCH", 1_000),
        (TRAPS + "test_a_worker_prefetches_no_more_than_its_threads_soon_run",),
    ),
    Mutant(
        10,
        "usage leaves the outbox when it is sent",
        _usage_cleared_when_sent,
        ("tests/unit/workers/test_relay.py::test_rows_stay_until_they_are_confirmed",),
    ),
    Mutant(
        11,
        "limits and stream lie in the queue's own database",
        swapped(settings, "_beside", lambda url: url),
        (SETTINGS + "test_the_stream_is_beside_the_queue_in_another_database",),
    ),
    Mutant(
        12,
        "a stopping worker waits for a second",
        swapped(boundary, "DRAIN_SECONDS", 1.0),
        (TRAPS + "test_a_stopping_worker_waits_for_longer_than_the_longest_call",),
    ),
    Mutant(
        12,
        "a time limit that raises in the thread",
        _with_middleware(TimeLimit),
        (TRAPS + "test_nothing_of_dramatiqs_own_middleware_runs",),
    ),
    Mutant(
        13,
        "dramatiq's own event loop",
        _with_middleware(AsyncIO),
        (TRAPS + "test_nothing_of_dramatiqs_own_middleware_runs",),
    ),
    Mutant(
        14,
        "a permit has no lease",
        _permits_for_good,
        (
            "tests/integration/pacing/test_permits.py::test_a_permit_that_nobody_gives_back_runs_out",
        ),
    ),
    Mutant(
        15,
        "dramatiq's own metrics, on all addresses",
        _with_middleware(_metrics_of_dramatiq),
        (TRAPS + "test_nothing_of_dramatiqs_own_middleware_runs",),
    ),
    Mutant(
        16,
        "RabbitMQ does not confirm",
        _no_confirms,
        (TRAPS + "test_rabbitmq_confirms_what_is_published",),
    ),
    Mutant(
        17,
        "an idle consumer's pause grows without end",
        swapped(
            redis_broker, "poll_pause", lambda misses, longest=0.0: 0.001 * 2.0 ** min(misses, 60)
        ),
        (TRAPS + "test_an_idle_consumer_looks_often",),
    ),
    Mutant(
        18,
        "dramatiq logs as it likes",
        _logged_as_dramatiq_likes,
        (TRAPS + "test_a_failure_logs_no_arguments",),
    ),
    Mutant(
        19,
        "an app opens what a fork would share",
        _built_before_it_is_asked_for,
        (TRAPS + "test_an_app_opens_nothing_before_it_is_asked_to",),
    ),
    Mutant(
        0,
        "a claim passes a budget",
        swapped(budgets, "_add", _passes_budgets),
        ALL_HISTORIES,
    ),
    Mutant(
        0,
        "what was reserved of a budget is not given back",
        swapped(budgets, "release", _never),
        ALL_HISTORIES,
    ),
    Mutant(
        0,
        "less is reserved of a budget than a call may cost",
        swapped(spending, "dearest_price", _one_nano_dollar),
        ALL_HISTORIES,
    ),
    Mutant(
        0,
        "a budget that is reached is not told of",
        swapped(budgets, "note_reached", _never),
        ALL_HISTORIES,
    ),
    Mutant(
        0,
        "what is paused is not looked at",
        swapped(PauseWatch, "known", Paused()),
        ALL_HISTORIES,
    ),
    Mutant(
        0,
        "a key's ciphertext is bound to nothing",
        swapped(vault, "key_aad", _binds_nothing),
        (HISTORIES.format(first=0),),
    ),
    Mutant(
        0,
        "a stored mail is bound to nothing",
        swapped(vault, "_text_aad", _binds_nothing),
        (HISTORIES.format(first=0),),
    ),
    Mutant(
        0,
        "an account may have all threads of a process",
        swapped(shares, "LARGEST_SHARE", 1.0),
        (FLOOD,),
    ),
    Mutant(
        0,
        "consents and removals share their threads with analyses",
        swapped(worker, "groups", _one_group),
        (FLOOD,),
    ),
)
