"""The whole system in one process, driven through its doors: events in, store and stream out."""

import base64
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pika
import redis

from deploy.local.sandbox import SandboxServer
from events import (
    AccountUpdated,
    AnalysisInput,
    AnalysisRequested,
    CreditPeriod,
    EventData,
    KeyAdded,
    KeyRemoved,
    KeyReplaced,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
    SigningKey,
    seal_input,
    seal_key,
)
from events.broker import REDIS_SCHEMES, scheme_of
from events.stream import EVENT_FIELD, STREAM
from store import accounts, analyses, credits, keys, ledger, migrate, outbox, waiting
from store.analyses import Attempt, Request
from store.keys import KeyRecord
from tests.sent import RECORDS
from workers import scheduler, worker
from workers.app import App
from workers.settings import Settings

GOOD_OPENAI = "sk-proj-sandbox-good-openai-not-a-real-key-0001"
GOOD_ANTHROPIC = "sk-ant-api03-sandbox-good-anthropic-not-a-real-key-0001"
PLATFORM_OPENAI = "sk-proj-sandbox-platform-openai-not-a-real-key"
PLATFORM_ANTHROPIC = "sk-ant-api03-sandbox-platform-anthropic-not-a-real-key"

MAIL = MailInput.model_validate(
    {
        "subject": "Lunch on Friday?",
        "from": "Ann <ann@example.org>",
        "to": "bob@example.org",
        "text": "Hi Bob, shall we have lunch on Friday? Please let me know. Ann",
    }
)

PATIENCE = 30.0


def fake_key(byte: int) -> str:
    """A named key of 32 equal bytes."""
    return f"t{byte}:{base64.b64encode(bytes([byte]) * 32).decode()}"


SIGNING_KEY = SigningKey.parse(fake_key(3))


def make_settings(
    state_dir: Path, *, broker: str, database: str, sandbox: SandboxServer, **more: Any
) -> Settings:
    """Settings that name every service, whatever the environment says."""
    return Settings(
        **{
            "state_dir": state_dir,
            "broker_url": broker,
            "database_url": database,
            "master_keys": fake_key(1),
            "sealing_keys": fake_key(2),
            "signing_key": fake_key(3),
            "source": "test/upstream",
            "publishers": json.dumps(
                {"test/upstream": {"keys": [SIGNING_KEY.public], "types": ["byok.*"]}}
            ),
            "platform_openai_key": PLATFORM_OPENAI,
            "platform_anthropic_key": PLATFORM_ANTHROPIC,
            "OPENAI_BASE_URL": sandbox.openai_url,
            "ANTHROPIC_BASE_URL": sandbox.anthropic_url,
            "analysis_threads": 8,
            "key_threads": 2,
            **more,
        }
    )


def _replaced(app: App) -> list[str]:
    """The metrics that were given a value which their label's set does not name."""
    (family,) = app.instruments.replaced.instrument.collect()
    return [
        sample.labels["metric"]
        for sample in family.samples
        # Beside each there is one of when it was created.
        if sample.name.endswith("_total") and sample.value
    ]


class Road:
    """A worker and a scheduler in threads, and the doors of the system."""

    def __init__(self, settings: Settings, sandbox: SandboxServer) -> None:
        self.settings = settings
        self.sandbox = sandbox
        self.app = App(settings, role="test")
        self._apps: list[App] = []
        self._threads: list[threading.Thread] = []
        self._revision = 0
        self._consents: dict[str, bool] = {}

    def start(self) -> None:
        """Start a worker and a scheduler."""
        migrate.upgrade(self.app.database)
        for role, run in (("worker", worker.run), ("scheduler", scheduler.run)):
            app = App(self.settings, role=role)
            thread = threading.Thread(target=run, args=(app,), name=role)
            thread.start()
            self._apps.append(app)
            self._threads.append(thread)

    def stop_working(self) -> None:
        """Stop worker and scheduler, and wait until they have; the doors stay open."""
        for app in self._apps:
            app.stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} does not stop"
        unnamed = [label for app in self._apps for label in _replaced(app)]
        for app in self._apps:
            app.close()
        self._apps.clear()
        self._threads.clear()
        assert not unnamed, f"add what these metrics were given to metrics/labels.py: {unnamed}"

    def stop(self) -> None:
        """Stop everything."""
        self.stop_working()
        self.app.close()

    def revision(self) -> int:
        """The next revision of the system of record."""
        self._revision += 1
        return self._revision

    def publish(self, data: EventData, account: str, **options: Any) -> str:
        """Publish an event; its id."""
        if isinstance(data, AccountUpdated):
            self._consents[account] = data.ai_consent
        if self._consents.get(account):
            for request_id in RECORDS.withheld_of(account):
                request = self.request(request_id, account)
                if request is None or request.state not in analyses.TERMINAL:
                    RECORDS.give(account, request_id)
        return self.app.publisher.publish(data, account=account, **options).id

    def account(
        self,
        account: str = "acme",
        *,
        plan: str = "business",
        consent: bool = True,
        credits: int | None = 100,  # noqa: A002 -- the event's own name
        **more: Any,
    ) -> None:
        """Publish an account's state and wait until the store has it."""
        revision = self.revision()
        now = datetime.now(UTC)
        self.publish(
            AccountUpdated(
                revision=revision,
                plan=plan,
                ai_consent=consent,
                credits=credits,
                credit_period=CreditPeriod(
                    start=datetime(2026, 1, 1, tzinfo=UTC), end=now + timedelta(days=30)
                ),
                **more,
            ),
            account,
        )
        self.until(lambda: self._account_revision(account) >= revision)

    def give_key(
        self,
        pasted: str = GOOD_OPENAI,
        account: str = "acme",
        *,
        provider: Provider | None = None,
        key_id: str | None = None,
        replaces: bool = False,
        fallback: bool = False,
        settled: bool = True,
    ) -> str:
        """Connect a key, and with `settled` wait for its verdict; its id."""
        if provider is None:
            provider = Provider.ANTHROPIC if "sk-ant" in pasted else Provider.OPENAI
        key_id = key_id or f"key-{self.app.effects.new_id()}"
        kind = KeyReplaced if replaces else KeyAdded
        self.publish(
            kind(
                revision=self.revision(),
                provider=provider,
                key_id=key_id,
                sealed_key=self.sealed_key(pasted, account, provider, key_id),
                allow_platform_fallback=fallback,
            ),
            account,
        )
        if settled:
            self.until(lambda: (k := self.key(key_id)) is not None and k.status != "pending")
        return key_id

    def sealed_key(self, pasted: str, account: str, provider: Provider, key_id: str) -> str:
        """A key sealed as upstream does it."""
        return seal_key(
            pasted,
            self.settings.sealing_public,
            account=account,
            provider=provider,
            key_id=key_id,
        )

    def remove_key(self, key_id: str, account: str = "acme") -> None:
        """Remove a key and wait until it is gone."""
        key = self.key(key_id)
        assert key is not None
        self.publish(
            KeyRemoved(revision=self.revision(), provider=Provider(key.provider), key_id=key_id),
            account,
        )
        self.until(lambda: (k := self.key(key_id)) is not None and k.removed_at is not None)

    def ask(
        self,
        account: str = "acme",
        *,
        mail: AnalysisInput | None = None,
        operation: Operation = Operation.CLASSIFY,
        provider: ProviderChoice = ProviderChoice.AUTO,
        request_id: str | None = None,
        traceparent: str | None = None,
        **more: Any,
    ) -> str:
        """Publish an analysis request; its id.

        Without a `mail` it is about `MAIL` with the id in it: an identical mail would be answered
        by reuse.
        """
        request_id = request_id or f"req-{self.app.effects.new_id()}"
        given = mail or MAIL.model_copy(update={"text": f"{MAIL.text}\n\n{request_id}"})
        if mail is None and not self._may_consent(account):
            RECORDS.withhold(account, request_id, request_id)
        self.publish(
            AnalysisRequested(
                request_id=request_id,
                operation=operation,
                provider=provider,
                sealed_input=seal_input(
                    given.to_json(),
                    self.settings.sealing_public,
                    account=account,
                    request_id=request_id,
                ),
                **more,
            ),
            account,
            traceparent=traceparent,
        )
        return request_id

    def ended(self, request_id: str, account: str = "acme") -> Request:
        """Wait until a request is in a terminal state; the request."""

        def has_ended() -> bool:
            request = self.request(request_id, account)
            return request is not None and request.state in analyses.TERMINAL

        try:
            self.until(has_ended)
        except AssertionError:
            raise AssertionError(f"has not ended: {self.request(request_id, account)}") from None
        found = self.request(request_id, account)
        assert found is not None
        return found

    def request(self, request_id: str, account: str = "acme") -> Request | None:
        """A request as it stands."""
        with self.app.database.read() as connection:
            return analyses.find(connection, account, request_id)

    def key(self, key_id: str) -> KeyRecord | None:
        """A key as it stands."""
        with self.app.database.read() as connection:
            return keys.find(connection, key_id)

    def waiting_events(self) -> int:
        """How many events wait for their account."""
        with self.app.database.read() as connection:
            return waiting.count(connection)

    @property
    def worker_app(self) -> App:
        """The app of the running worker."""
        return next(app for app in self._apps if app.role == "worker")

    @property
    def roles(self) -> list[App]:
        """The apps of the running worker and scheduler."""
        return list(self._apps)

    def credits(self, account: str = "acme") -> tuple[int, int]:
        """Credits (used, reserved) in the account's period."""
        with self.app.database.read() as connection:
            found = accounts.find(connection, account)
            assert found is not None
            return credits.standing(connection, found)

    def attempts(self, request_id: str, account: str = "acme") -> list[Attempt]:
        """The attempts of a request, in order."""
        with self.app.database.read() as connection:
            return analyses.attempts_of(connection, account, request_id)

    def put_raw(self, queue: str, data: bytes, options: dict[str, Any]) -> None:
        """Put bytes on a queue as a foreign publisher may."""
        url = self.settings.effective_broker_url
        if scheme_of(url) in REDIS_SCHEMES:
            message_id = f"raw-{self.app.effects.new_id()}"
            try:
                fields = json.loads(data)
                fields["options"] = {**options, "redis_message_id": message_id}
                data = json.dumps(fields).encode()
            except ValueError:
                pass
            with redis.Redis.from_url(url) as client:
                client.hset(f"byok:{queue}.msgs", message_id, data)
                client.rpush(f"byok:{queue}", message_id)
            return
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            connection.channel().basic_publish("", queue, data)

    def unacknowledged(self, queue: str) -> int:
        """How many messages a queue holds, those that were taken among them."""
        url = self.settings.effective_broker_url
        if scheme_of(url) in REDIS_SCHEMES:
            with redis.Redis.from_url(url) as client:
                return int(client.hlen(f"byok:{queue}.msgs"))
        return self.app.publisher.depth(queue)

    def settled_ledger(self) -> list[ledger.LedgerRow]:
        """The ledger, once every usage row has arrived on it."""

        def arrived() -> bool:
            with self.app.database.read() as connection:
                return outbox.USAGE not in outbox.backlog(connection)

        self.until(arrived)
        with self.app.database.read() as connection:
            return ledger.rows_of(connection)

    def out_events(self, kind: str) -> list[dict[str, Any]]:
        """The out-events of a type (`key.status_changed`) once all have arrived on the stream."""

        def arrived() -> bool:
            with self.app.database.read() as connection:
                return outbox.EVENT not in outbox.backlog(connection)

        self.until(arrived)
        entries = self.app.stream.xrange(STREAM)
        events = [json.loads(fields[EVENT_FIELD.encode()]) for _, fields in entries]
        return [event for event in events if event["type"] == f"byok.{kind}.v1"]

    def until(self, holds: Callable[[], object], patience: float = PATIENCE) -> None:
        """Look again and again until `holds`; fail after `patience` seconds."""
        deadline = time.monotonic() + patience
        waiting = threading.Event()
        while not holds():
            assert time.monotonic() < deadline, f"did not come to hold in {patience:g} s"
            waiting.wait(0.01)

    def _may_consent(self, account: str) -> bool:
        """Whether an account has given its consent, or may have on the way."""
        with self.app.database.read() as connection:
            found = accounts.find(connection, account)
        return self._consents.get(account, False) or (found is not None and found.ai_consent)

    def _account_revision(self, account: str) -> int:
        with self.app.database.read() as connection:
            return accounts.highest_revision(connection, account)
