"""The whole road by the processes that the deployment's files describe, under least privilege.

The same flags, the same variables, the same secrets to each process; the addresses that the secrets
hold lead to services of the tests.
"""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
import yaml

from deploy.local.sandbox import SandboxServer
from events import (
    AccountUpdated,
    AnalysisCompleted,
    AnalysisRequested,
    CreditPeriod,
    Envelope,
    KeyAdded,
    KeyStatusChanged,
    Provider,
    Publisher,
    SealingKeys,
    seal_input,
    seal_key,
    subscribe,
)
from tests.integration.deploy.conftest import Rendered, as_role
from tests.integration.deploy.described import (
    COMPOSE,
    STATE,
    Described,
    of_pod,
    of_service,
    of_unit,
)
from tests.integration.process.running import until
from tests.road import GOOD_OPENAI, MAIL, SIGNING_KEY, fake_key

UNITS = [
    *(f"byok-worker@{group}" for group in ("events", "validations", "analyses", "usage")),
    "byok-scheduler",
    "byok-exporter",
]
SOURCE = "test/upstream"
STATE_DIR = "BYOK_STATE_DIR"
SECONDS = 90


@dataclass
class Running:
    """Processes as they were described, started in one directory."""

    directory: Path
    secrets: dict[str, str]
    more: dict[str, str]
    started: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def once(self, described: Described) -> None:
        """Run one to its end."""
        process = described.start(self.directory, self.secrets, self.more)
        assert process.wait(SECONDS) == 0, self.log(described.name)

    def start(self, described: Described) -> None:
        """Start one that stays."""
        process = described.start(self.directory, self.secrets, self.more)
        self.started[described.name] = process

    def log(self, name: str) -> str:
        """What a process said."""
        return (self.directory / f"{name}.log").read_text()[-2000:]

    def said(self, words: str) -> list[str]:
        """The processes that said this."""
        return [name for name in self.started if words in self.log(name)]

    def stand(self) -> bool:
        """Whether all are up. Fails with the last words of one that is not."""
        for name, process in self.started.items():
            assert process.poll() is None, f"{name} ended: {self.log(name)}"
        return True

    def stop(self) -> None:
        """Have all end as a service manager does."""
        for process in self.started.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self.started.items():
            assert process.wait(SECONDS) == 0, f"{name}: {self.log(name)}"

    def kill(self) -> None:
        """End what a failed test has left."""
        for process in self.started.values():
            process.kill()
            process.wait()


@pytest.fixture
def running(
    tmp_path: Path, owned: str, users: dict[str, str], sandbox: SandboxServer
) -> Iterator[Running]:
    """Nothing started yet; the secrets as an operator puts them."""
    publishers = {SOURCE: {"keys": [SIGNING_KEY.public], "types": ["byok.*"]}}
    secrets = {
        **{f"{role}_database_url": as_role(owned, role) for role in ("owner", "worker")},
        **{f"{role}_database_url": as_role(owned, role) for role in ("scheduler", "reader")},
        "broker_url": f"{users['worker']}?db=0",
        "redis_url": f"{users['worker']}?db=1",
        "master_keys": fake_key(1),
        "sealing_keys": fake_key(2),
        "publishers": json.dumps(publishers),
        "platform_openai_key": "sk-proj-sandbox-platform-openai-not-a-real-key",
        "platform_anthropic_key": "sk-ant-api03-sandbox-platform-anthropic-not-a-real-key",
    }
    more = {"OPENAI_BASE_URL": sandbox.openai_url, "ANTHROPIC_BASE_URL": sandbox.anthropic_url}
    processes = Running(tmp_path, secrets, more)
    try:
        yield processes
    finally:
        processes.kill()


def test_on_a_machine_with_systemd(running: Running, owned: str, users: dict[str, str]) -> None:
    running.once(of_unit("byok-migration"))
    for unit in UNITS:
        running.start(of_unit(unit))
    connect_and_ask(running, owned, users)
    shows(running, 'byok_processes{role="worker"} 4.0')
    shows(running, "byok_provider_calls_total{")
    for role in ("worker", "scheduler", "exporter"):
        running.once(
            Described(f"probe-{role}", ["healthcheck", role, "--ready"], {STATE_DIR: STATE})
        )
    running.stop()
    assert running.said("permission") == []


def test_on_kubernetes(
    running: Running, owned: str, users: dict[str, str], chart: Rendered
) -> None:
    (job,) = chart.of("Job").values()
    (migration,) = of_pod("migration", job["spec"]["template"]["spec"])
    running.once(migration)
    for name, deployment in chart.of("Deployment").items():
        for described in of_pod(name, deployment["spec"]["template"]["spec"]):
            # Each pod has an exporter of its own, on its own address: here one stands for all.
            if described.arguments != ["exporter"] or name.endswith("scheduler"):
                described.environment.update(BYOK_EXPORTER_PORT="0", BYOK_HEALTH_PORT="0")
                running.start(described)
    connect_and_ask(running, owned, users)
    shows(running, 'byok_processes{role="worker"} 2.0')
    running.stop()
    assert running.said("permission") == []


def test_with_compose(running: Running, owned: str, users: dict[str, str]) -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    running.once(of_service("migration", services["migration"]))
    described = of_service("byok", services["byok"])
    described.environment["BYOK_EXPORTER_PORT"] = "0"
    running.start(described)
    connect_and_ask(running, owned, users)
    running.stop()


def connect_and_ask(running: Running, owned: str, users: dict[str, str]) -> None:
    """A publisher connects a key and has a mail analysed, each under a user of its own."""
    sealing = SealingKeys.parse(running.secrets["sealing_keys"]).current
    publisher = Publisher(
        f"{users['publisher']}?db=0",
        source=SOURCE,
        signing_key=SIGNING_KEY,
        redis_url=f"{users['publisher']}?db=1",
    )
    now = datetime.now(UTC)
    period = CreditPeriod(start=now - timedelta(days=1), end=now + timedelta(days=1))
    account = AccountUpdated(
        revision=1, plan="business", ai_consent=True, credits=0, credit_period=period
    )
    publisher.publish(account, account="acme", wait="claimed", timeout=SECONDS)
    sealed = seal_key(
        GOOD_OPENAI, sealing, account="acme", provider=Provider.OPENAI, key_id="key-1"
    )
    key = KeyAdded(revision=2, provider=Provider.OPENAI, key_id="key-1", sealed_key=sealed)
    with out_events(users) as told:
        publisher.publish(key, account="acme", wait="claimed", timeout=SECONDS)
        until(
            lambda: running.stand() and "valid" in told(KeyStatusChanged, "new"),
            "the key is valid",
            SECONDS,
        )
        asked = AnalysisRequested(
            request_id="request-1",
            operation="classify",  # type: ignore[arg-type]  # as a publisher writes it
            sealed_input=seal_input(
                MAIL.to_json(), sealing, account="acme", request_id="request-1"
            ),
        )
        publisher.publish(asked, account="acme")
        until(
            lambda: running.stand() and told(AnalysisCompleted, "request_id") == ["request-1"],
            "the analysis is told",
            SECONDS,
        )
    publisher.close()
    with psycopg.connect(as_role(owned, "reader")) as reader:
        until(
            lambda: reader.execute("SELECT kind FROM ledger").fetchall() == [("call",)],
            "the call is on the ledger",
        )


@contextmanager
def out_events(users: dict[str, str]) -> Iterator[Any]:
    """What the subscriber's user reads: a field of all events of a type."""
    events: list[Envelope] = []
    stop = threading.Event()
    reading = threading.Thread(
        target=subscribe,
        args=("mailers", (KeyStatusChanged, AnalysisCompleted), events.append),
        kwargs={"redis_url": f"{users['subscriber']}?db=1", "stop": stop},
    )
    reading.start()
    try:
        yield lambda kind, name: [
            getattr(event.data, name).value
            if hasattr(getattr(event.data, name), "value")
            else getattr(event.data, name)
            for event in events
            if isinstance(event.data, kind)
        ]
    finally:
        stop.set()
        reading.join()


def shows(running: Running, line: str) -> None:
    """Wait until the exporter's page holds this."""
    address = running.directory / "state" / "exporter.url"
    until(address.exists, "the exporter serves")
    url = address.read_text().strip().replace("0.0.0.0", "127.0.0.1")  # noqa: S104 -- as it was told

    def told() -> bool:
        with urlopen(url, timeout=10) as page:  # noqa: S310 -- our own
            return line in page.read().decode()

    until(told, f"the exporter shows {line}")
