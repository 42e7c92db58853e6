"""Analyses per second and CPU per analysis, whole road, beside a bare loop and beside peers.

A contender gets a backlog in one go and is measured from then until the last one is in a terminal
state. CPU is that of its own processes; the servers' is the same work for all and not counted.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import psutil
from redis import Redis

from events.broker import redis_client
from tests.benchmarks import load
from tests.benchmarks.rounds import Rounds
from tests.benchmarks.stage import ROOT, Stage, a_process, a_stage, a_valkey, wait_until
from workers.app import App

ACCOUNTS = 100
WARM_UP = 200
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done at a time."""

    processes: int
    in_flight: int
    count: int

    def __str__(self) -> str:
        return f"{self.processes} x {self.in_flight}"


def bare(stage: Stage, size: Size) -> Mapping[str, float]:
    """The bare loop."""
    share = size.count // size.processes
    arguments = [stage.sandbox_url, str(share), str(size.in_flight)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bare", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for _ in range(size.processes)
    ]
    told = [json.loads(process.communicate()[0]) for process in running]
    return {
        "analyses/s": sum(share / one["seconds"] for one in told),
        "CPU ms/analysis": 1000 * sum(one["cpu_seconds"] for one in told) / size.count,
        "peak RSS MB/process": max(one["peak_rss_mb"] for one in told),
    }


def our_road(kind: str, size: Size, *, accounts: int = ACCOUNTS) -> Mapping[str, float]:
    """The whole road: workers, and a scheduler for relay and sweeps."""
    with a_stage(kind) as stage:
        environment = stage.environment(threads=size.in_flight)
        with ExitStack() as stack:
            workers = [
                stack.enter_context(a_process(["-m", "workers.cli", "worker"], env=environment))
                for _ in range(size.processes)
            ]
            scheduler = stack.enter_context(
                a_process(["-m", "workers.cli", "scheduler"], env=environment)
            )
            app = App(stage.settings(threads=4), role="bench")
            stack.callback(app.close)
            load.set_up_accounts(app, accounts)
            publish = partial(load.publish_at_once, stage)
            return _measured(app, publish, size, [*workers, scheduler], accounts=accounts)


def peer(command: Sequence[str], kind: str, size: Size) -> Mapping[str, float]:
    """A peer that does the same work."""
    with a_stage(kind) as stage, ExitStack() as stack:
        app = App(stage.settings(threads=4), role="bench")
        stack.callback(app.close)
        with _keys_are_valid(stage):
            load.set_up_accounts(app, ACCOUNTS)
        # One of their own: ours stands idle meanwhile.
        queue = stack.enter_context(a_valkey(stage.directory / "peers"))
        environment = stage.environment(
            threads=size.in_flight,
            BENCH_CELERY_BROKER=_celery_url(queue),
            BENCH_TASKIQ_BROKER=queue,
            OPENAI_API_KEY="no-key",
        )
        workers = [
            stack.enter_context(a_process(["-m", *command], env=environment))
            for _ in range(size.processes)
        ]
        sender = _SENDERS[command[0]](queue)
        return _measured(app, sender, size, workers)


@contextmanager
def _keys_are_valid(stage: Stage) -> Iterator[None]:
    """A worker and a scheduler of ours, for as long as accounts are set up."""
    environment = stage.environment(threads=4)
    with (
        a_process(["-m", "workers.cli", "worker"], env=environment),
        a_process(["-m", "workers.cli", "scheduler"], env=environment),
    ):
        yield


def _measured(
    app: App,
    publish: Callable[[Sequence[load.Request]], None],
    size: Size,
    processes: Sequence["subprocess.Popen[bytes]"],
    *,
    accounts: int = ACCOUNTS,
) -> Mapping[str, float]:
    warm = load.requests_of(app, WARM_UP, accounts)
    publish(warm)
    wait_until(lambda: load.ended(app) >= WARM_UP, "warm-up", *processes, patience=120)
    backlog = load.requests_of(app, size.count, accounts)
    with _watched(processes) as seen:
        before, began = _cpu(processes), time.monotonic()
        publish(backlog)
        all_of_it = WARM_UP + size.count
        wait_until(
            lambda: load.ended(app) >= all_of_it, "the end", *processes, patience=PATIENCE_SECONDS
        )
        seconds, used = time.monotonic() - began, _cpu(processes) - before
    states = load.states(app)
    if states != {"completed": all_of_it}:
        raise RuntimeError(f"not all were completed: {states}")
    return {
        "analyses/s": size.count / seconds,
        "CPU ms/analysis": 1000 * used / size.count,
        "peak RSS MB/process": max(seen) / 2**20,
    }


def _tree(processes: Sequence["subprocess.Popen[bytes]"]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.Error):
            root = psutil.Process(process.pid)
            found += [root, *root.children(recursive=True)]
    return found


def _cpu(processes: Sequence["subprocess.Popen[bytes]"]) -> float:
    """Seconds of CPU that the processes and their children have used."""
    total = 0.0
    for process in _tree(processes):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:2])
    return total


@contextmanager
def _watched(processes: Sequence["subprocess.Popen[bytes]"]) -> Iterator[list[int]]:
    """The resident bytes of the largest process, looked at twice a second."""
    seen, stop = [0], threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            for process in _tree(processes):
                with suppress(psutil.Error):
                    seen.append(process.memory_info().rss)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _celery_url(queue: str) -> str:
    return f"{queue.replace('unix://', 'redis+socket://')}?virtual_host=0"


def _to_celery(queue: str) -> Callable[[Sequence[load.Request]], None]:
    from celery import Celery  # noqa: PLC0415 -- an optional extra

    app = Celery("peer", broker=_celery_url(queue))

    def send(requests: Sequence[load.Request]) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for one in requests:
                app.send_task(
                    "analyse", (one.account, one.request_id, one.sealed), producer=producer
                )

    return send


def _to_taskiq(queue: str) -> Callable[[Sequence[load.Request]], None]:
    client: Redis = redis_client(queue, max_connections=2)

    def send(requests: Sequence[load.Request]) -> None:
        pipeline = client.pipeline(transaction=False)
        for one in requests:
            message = {
                "task_id": one.request_id,
                "task_name": "analyse",
                "labels": {},
                "labels_types": {},
                "args": [one.account, one.request_id, one.sealed],
                "kwargs": {},
            }
            pipeline.xadd("taskiq", {b"data": json.dumps(message).encode()})
        pipeline.execute()

    return send


_SENDERS = {"celery": _to_celery, "taskiq": _to_taskiq}

CELERY = "celery -A tests.benchmarks.peers.celery_tasks:tasks worker -P threads -l warning -c"
TASKIQ = "taskiq worker tests.benchmarks.peers.taskiq_tasks:broker --workers 1 --max-async-tasks"


def measure(kind: str, size: Size, *, rounds: int, peers: bool) -> Rounds:
    """Alternating rounds of all contenders."""
    measured = Rounds(f"Throughput on {kind}, {size} in flight")

    def limit() -> Mapping[str, float]:
        with a_stage("sqlite") as stage:
            return bare(stage, size)

    contenders: dict[str, Callable[[], Mapping[str, float]]] = {
        "bare AsyncOpenAI loop": limit,
        "this road": lambda: our_road(kind, size),
    }
    if peers and kind == "postgresql":
        for name, command in (("celery, threads", CELERY), ("taskiq", TASKIQ)):
            words = [*command.split(), str(size.in_flight)]
            contenders[f"{name}, the plain work"] = partial(peer, words, kind, size)
    measured.run(contenders, rounds=rounds)
    return measured
