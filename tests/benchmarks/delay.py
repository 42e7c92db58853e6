"""The delay that is added to one analysis at low load, and to a key's way to Valid.

An analysis: from before it is published until its out-event is on the stream, less the time that
the provider took (which its provenance tells). A key: from before `key.added` is published until
its `key.status_changed` to Valid is on the stream; the sandbox answers a probe at once.
"""

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import psutil

from events import (
    AnalysisCompleted,
    AnalysisRequested,
    Envelope,
    KeyReplaced,
    KeyStatus,
    KeyStatusChanged,
    Operation,
    Provider,
    ProviderChoice,
    seal_key,
)
from events.stream import subscribe
from store import analyses
from tests.benchmarks import load
from tests.benchmarks.fairness import percentile
from tests.benchmarks.rounds import Rounds
from tests.benchmarks.stage import OWN_KEY, a_process, a_stage, wait_until
from workers.app import App

ACCOUNTS = 4
REQUESTS = 100
EVERY_SECONDS = 0.1
KEYS = 40
IDLE_SECONDS = 10.0
THREADS = 64


def low_load(kind: str, broker: str | None = None) -> Mapping[str, float]:
    """Ten requests a second, one after the other; `broker` takes the place of the Valkey."""
    with a_stage(kind) as stage, ExitStack() as stack:
        more = {} if broker is None else {"BYOK_BROKER_URL": broker}
        environment = stage.environment(threads=THREADS, **more)
        roles = [
            stack.enter_context(a_process(["-m", "workers.cli", role], env=environment))
            for role in ("worker", "scheduler")
        ]
        settings = stage.settings(threads=4)
        if broker is not None:
            settings = settings.model_copy(update={"broker_url": broker})
        app = App(settings, role="bench")
        stack.callback(app.close)
        heard = stack.enter_context(_listening(app))
        load.set_up_accounts(app, ACCOUNTS)
        added = _analyses(app, heard)
        to_valid = _keys(app, heard)
        idle = _idle_share(roles[0])
        return {
            **{f"added ms, {name}": 1000 * value for name, value in _told(added)},
            **{f"key to Valid ms, {name}": 1000 * value for name, value in _told(to_valid)},
            "idle worker, % of a core": 100 * idle,
        }


def _told(delays: Sequence[float]) -> Iterator[tuple[str, float]]:
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        yield name, percentile(delays, share)


@contextmanager
def _listening(app: App) -> Iterator[dict[str, float]]:
    """When the completion of a request, or the validity of a key, was heard of on the stream."""
    heard: dict[str, float] = {}
    stop = threading.Event()

    def hear(envelope: Envelope) -> None:
        match envelope.data:
            case AnalysisCompleted(request_id=request_id):
                heard[request_id] = time.monotonic()
            case KeyStatusChanged(key_id=key_id, new=KeyStatus.VALID):
                heard[key_id] = time.monotonic()

    types = (AnalysisCompleted, KeyStatusChanged)
    address = app.settings.effective_redis_url
    options = {"redis_url": address, "stop": stop}
    thread = threading.Thread(target=subscribe, args=("bench", types, hear), kwargs=options)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


def _analyses(app: App, heard: Mapping[str, float]) -> list[float]:
    sent: dict[str, tuple[str, float]] = {}
    pause = threading.Event()
    for request in load.requests_of(app, REQUESTS, ACCOUNTS):
        data = AnalysisRequested(
            request_id=request.request_id,
            operation=Operation.CLASSIFY,
            provider=ProviderChoice.OPENAI,
            sealed_input=request.sealed,
        )
        sent[request.request_id] = (request.account, time.monotonic())
        app.publisher.publish(data, account=request.account)
        pause.wait(EVERY_SECONDS)
    wait_until(lambda: all(one in heard for one in sent), "all were heard of", patience=60)
    return [
        heard[one] - at - _provider_seconds(app, account, one)
        for one, (account, at) in sent.items()
    ]


def _provider_seconds(app: App, account: str, request_id: str) -> float:
    with app.database.read() as connection:
        request = analyses.find(connection, account, request_id)
    assert request is not None
    assert request.usage is not None
    return float(request.usage["latency_ms"]) / 1000


def _keys(app: App, heard: Mapping[str, float]) -> list[float]:
    delays = []
    account = load.account_name(0)
    for number in range(KEYS):
        key_id = f"again-{number:03}"
        sealed = seal_key(
            OWN_KEY.format(key_id),
            app.settings.sealing_public,
            account=account,
            provider=Provider.OPENAI,
            key_id=key_id,
        )
        data = KeyReplaced(
            revision=10 + number, provider=Provider.OPENAI, key_id=key_id, sealed_key=sealed
        )
        began = time.monotonic()
        app.publisher.publish(data, account=account)
        wait_until(partial(heard.__contains__, key_id), "the key is Valid")
        delays.append(heard[key_id] - began)
    return delays


def _idle_share(worker: "subprocess.Popen[bytes]") -> float:
    """The share of a core that a worker uses while there is nothing to do."""
    process = psutil.Process(worker.pid)
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    threading.Event().wait(IDLE_SECONDS)
    return (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)


def measure(kind: str, *, rounds: int, amqp: str | None) -> Rounds:
    """Rounds on Redis and, where one is there, on RabbitMQ."""
    measured = Rounds(f"Delay at low load on {kind}")
    contenders = {"Redis": lambda: low_load(kind)}
    if amqp is not None:
        contenders["RabbitMQ"] = lambda: low_load(kind, amqp)
    measured.run(contenders, rounds=rounds)
    return measured
