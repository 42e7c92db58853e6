"""Stand-ins for what an app takes from outside: time, chance, the message queue, the provider."""

import json
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from events import Envelope, EventData
from events.envelope import wrap
from metrics.instruments import open_instruments
from store.engine import Database
from tests.road import SIGNING_KEY, fake_key
from workers.app import App
from workers.settings import Settings

T = TypeVar("T")

START = 1_767_268_800_000
"""2026-01-01 12:00 UTC in Unix milliseconds."""


@dataclass
class Clockwork:
    """Effects that a test owns: the clock stands until it is moved, ids count, waiting is noted.

    `on_wait` is called instead of waiting; what it returns is whether to stop.
    """

    now: int = START
    on_wait: Callable[[float], bool] | None = None
    waits: list[float] = field(default_factory=list)
    ids: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    def new_id(self) -> str:
        with self._lock:
            self.ids += 1
            return f"id-{self.ids:08}"

    def random_bytes(self, count: int) -> bytes:
        # Never twice the same, as AES-GCM needs it.
        return int(self.new_id().removeprefix("id-")).to_bytes(8, "big").rjust(count, b"\x55")

    def jitter(self) -> float:
        return 0.5

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        self.waits.append(seconds)
        if self.on_wait is not None:
            return self.on_wait(seconds) or stop.is_set()
        return stop.is_set()

    def pass_time(self, seconds: float) -> None:
        """Move the clock on."""
        self.now += int(seconds * 1000)


@dataclass
class Outbasket:
    """A publisher that keeps what it is given: (queue, actor, arguments)."""

    sent: deque[tuple[str, str, tuple[Any, ...]]] = field(default_factory=deque)

    def send(self, queue: str, actor: str, *arguments: Any) -> None:
        self.sent.append((queue, actor, arguments))


class OneAtATime:
    """Runs a coroutine that never waits for anything, without an event loop."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        raise AssertionError("the coroutine waits for something")

    def close(self) -> None:
        """There is nothing to close."""


def stand_in_settings(state_dir: Path, **more: Any) -> Settings:
    """Settings that name no service that is really there, whatever the environment says."""
    return Settings(
        **{
            "state_dir": state_dir,
            "broker_url": "unix:///nowhere.sock?db=0",
            "redis_url": "unix:///nowhere.sock?db=1",
            "database_url": "sqlite://",
            "master_keys": fake_key(1),
            "sealing_keys": fake_key(2),
            "publishers": json.dumps(
                {"upstream": {"keys": [SIGNING_KEY.public], "types": ["byok.*"]}}
            ),
            "platform_openai_key": "sk-proj-fake-platform-openai",
            "platform_anthropic_key": "sk-ant-api03-fake-platform-anthropic",
            "OPENAI_BASE_URL": "http://openai.invalid/v1",
            "ANTHROPIC_BASE_URL": "http://anthropic.invalid",
            **more,
        }
    )


def stand_in_app(state_dir: Path, database: Database, **settings: Any) -> App:
    """An app on a real database whose clock, queue and metrics are its own."""
    app = App(stand_in_settings(state_dir, **settings), role="test", effects=Clockwork())
    app.__dict__.update(
        database=database,
        publisher=Outbasket(),
        instruments=open_instruments(None),
        calls=OneAtATime(),
    )
    return app


def clockwork_of(app: App) -> Clockwork:
    """The app's effects, to move its clock."""
    assert isinstance(app.effects, Clockwork)
    return app.effects


def outbasket_of(app: App) -> Outbasket:
    """What the app has published."""
    basket = app.publisher
    assert isinstance(basket, Outbasket)
    return basket


def event_of(
    data: EventData, *, account: str = "acme", event_id: str = "evt-1", source: str = "upstream"
) -> Envelope:
    """An event as the workers read it from a queue."""
    return Envelope(
        id=event_id,
        source=source,
        type=data.event_type,
        time=datetime(2026, 1, 1, 12, tzinfo=UTC),
        subject=account,
        data=data,
    )


def signed_event(data: EventData, *, account: str = "acme", event_id: str = "evt-1") -> str:
    """An event in JSON, signed by the source that `stand_in_settings` believes."""
    return wrap(
        data,
        event_id=event_id,
        source="upstream",
        time=datetime.fromtimestamp(START / 1000, tz=UTC),
        account=account,
        sign=SIGNING_KEY.sign,
    ).to_json()


@dataclass
class Notebook:
    """A logger that keeps what it is told."""

    lines: list[str] = field(default_factory=list)

    def _note(self, event: str, **fields: Any) -> None:
        self.lines.append(f"{event} {fields}")

    debug = info = warning = error = _note

    @property
    def text(self) -> str:
        """Everything that was told."""
        return "\n".join(self.lines)
