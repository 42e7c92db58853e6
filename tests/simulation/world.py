"""The seeded scheduler: one thread, greenlets for threads, and a clock that moves when all wait.

Production code runs unchanged. Each of its threads is a greenlet here, and gives way to the others
only at a **boundary**: before and after a transaction, a message, a command to Valkey, a provider's
call, and where it waits. Which one goes on is drawn from the seed, and so is every fault. So one
seed is one history.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

START = 1_767_268_800_000
"""2026-01-01 12:00 UTC in Unix ms."""

NEVER = 1 << 62

KEEPER_SLACK_MS = 4_000
"""A step of the clock that is longer than this lets the lease keepers renew just before its end:
the renewals in between, one every 3 s, would have changed nothing."""


@dataclass(eq=False)
class Task:
    """A thread of a process: what it waits for, and what it is doing."""

    name: str
    owner: Any
    let: greenlet
    due: int = 0
    stop: threading.Event | None = None
    until: Callable[[], bool] | None = None
    passive: bool = False
    """Whether the clock need not stop for it: a lease keeper, a scheduler's tick."""
    slow: bool = False
    done: bool = False

    def is_ready(self, now: int) -> bool:
        """Whether it could go on."""
        if self.owner.frozen_until > now:
            return False
        if self.stop is not None and self.stop.is_set():
            return True
        if self.until is not None and self.until():
            return True
        return self.due <= now


@dataclass
class World:
    """Time, chance, the tasks, and the record of what happened."""

    seed: int
    rng: random.Random = field(init=False)
    now: int = START
    wall_offset: int = 0
    tasks: list[Task] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    steps: int = 0
    failures: list[str] = field(default_factory=list)
    in_transaction: bool = False
    sweep_due: Callable[[], int] = lambda: 0
    """When a sweep would find something; a tick before that would change nothing: left out."""
    _ids: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._main = getcurrent()
        self._current: Task | None = None

    def wall(self) -> int:
        """What the machines' clocks say."""
        return self.now + self.wall_offset

    def new_id(self) -> str:
        """A UUID of version 7, as the real ones are: its time, and a number that counts."""
        self._ids += 1
        text = f"{(self.wall() << 80) | (0x7 << 76) | (0x2 << 62) | self._ids:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def note(self, text: str) -> None:
        """Write what happens into the record."""
        self.trace.append(f"{(self.now - START) / 1000:10.3f} {text}")

    def chance(self, rate: float) -> bool:
        """Whether something of this rate happens now."""
        return rate > 0 and self.rng.random() < rate

    def spawn(
        self, owner: Any, name: str, run: Callable[[], None], *, passive: bool = False
    ) -> Task:
        """Start a task; it runs when it is drawn."""
        task = Task(name, owner, greenlet(lambda: None), passive=passive)

        def body() -> None:
            try:
                run()
            except GreenletExit:
                pass
            except Exception as error:  # noqa: BLE001 -- whatever it is, it ended a thread
                owner.thread_died(task, error)
            finally:
                task.done = True

        task.let = greenlet(body, self._main)
        self.tasks.append(task)
        return task

    def kill(self, task: Task) -> None:
        """End a task where it stands; nothing that it still tries has an effect."""
        if not task.let.dead and task is not self._current:
            # Back to here, not to the scheduler's loop.
            task.let.parent = getcurrent()
            task.let.throw(GreenletExit)
        task.done = True

    def give_way(
        self,
        *,
        seconds: float = 0.0,
        stop: threading.Event | None = None,
        until: Callable[[], bool] | None = None,
        slow: bool = False,
    ) -> None:
        """Let others run; go on after `seconds`, or when `stop` is set or `until` holds."""
        task = self._current
        if task is None or self.in_transaction:
            return
        task.due = self.now + max(0, int(seconds * 1000))
        task.stop, task.until, task.slow = stop, until, slow
        self._main.switch()

    @property
    def current(self) -> Task | None:
        """The task that runs."""
        return self._current

    def run(self, task: Task) -> None:
        """Let one task go on to its next boundary."""
        self.steps += 1
        task.stop = task.until = None
        self._current = task
        try:
            task.let.switch()
        finally:
            self._current = None
        if task.let.dead:
            task.done = True
        self.tasks = [one for one in self.tasks if not one.done]

    def ready(self) -> list[Task]:
        """The tasks that could go on now."""
        found = [task for task in self.tasks if task.is_ready(self.now)]
        if any(self._only_ticks(task) for task in found) and self.sweep_due() > self.now:
            found = [task for task in found if not self._only_ticks(task)]
        return found

    def _only_ticks(self, task: Task) -> bool:
        return task.slow and not (task.stop is not None and task.stop.is_set())

    def next_due(self) -> int:
        """When the next task that the clock stops for is to go on."""
        dues = (
            max(task.due, task.owner.frozen_until)
            for task in self.tasks
            if not task.slow and not (task.passive and task.stop is not None)
        )
        return min(dues, default=NEVER)

    def advance(self, to: int) -> None:
        """Move the clock on, the lease keepers having renewed as they would."""
        if to - self.now > KEEPER_SLACK_MS:
            self.now = to - 500
            for task in [task for task in self.tasks if task.name == "lease"]:
                while not task.done and task.is_ready(self.now):
                    self.run(task)
        self.now = max(self.now, to)
