"""Whether a role is alive and whether it is ready, from what its own threads say of themselves.

*Alive*: no loop is stuck and no thread has died. What a restart would not mend is no matter of it:
an outage of the broker or the database makes a role unready and leaves it alive.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

WEDGED_SECONDS = 45.0
"""A loop that has not come round for so long is stuck. The longest that one takes by itself is a
lost connection to the broker: 5 s to connect, 10 s for an answer, and 3 s of dramatiq's pause."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether something is well, and what is wrong where it is not: by part, one sentence each."""

    wrong: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong


@dataclass
class Health:
    """What the threads of one process say. Safe to share between them."""

    role: str
    monotonic: Callable[[], float]
    stopping: threading.Event
    _expected: set[str] = field(default_factory=set)
    _rounds: dict[str, float] = field(default_factory=dict)
    _answers: dict[str, bool] = field(default_factory=dict)
    _threads: dict[str, Callable[[], bool]] = field(default_factory=dict)
    _conditions: dict[str, Callable[[], bool]] = field(default_factory=dict)
    _started: bool = False

    def expect(self, loop: str) -> None:
        """A loop that must have begun before the role is ready."""
        self._expected.add(loop)

    def goes_round(self, loop: str) -> None:
        """A loop begins a round: it is not stuck."""
        self._rounds[loop] = self.monotonic()

    def answered(self, part: str, *, well: bool) -> None:
        """A part that this role needs answered, or did not."""
        self._answers[part] = well

    def watch_thread(self, name: str, is_alive: Callable[[], bool]) -> None:
        """A thread without which the role does nothing."""
        self._threads[name] = is_alive

    def require(self, part: str, holds: Callable[[], bool]) -> None:
        """What must hold for the role to be ready."""
        self._conditions[part] = holds

    def has_started(self) -> None:
        """Everything runs."""
        self._started = True

    def live(self) -> Finding:
        """Whether the process is to be left alone; one that is not is to be restarted."""
        now = self.monotonic()
        stuck = {
            loop: f"has not come round for {now - at:.0f} s"
            for loop, at in tuple(self._rounds.items())
            if now - at > WEDGED_SECONDS
        }
        dead = {
            name: "has died"
            for name, is_alive in tuple(self._threads.items())
            if not is_alive() and not self.stopping.is_set()
        }
        return Finding(stuck | dead)

    def ready(self) -> Finding:
        """Whether the role does its work now."""
        if self.stopping.is_set():
            return Finding({self.role: "is stopping"})
        if not self._started:
            return Finding({self.role: "is starting"})
        waited_for = dict.fromkeys(self._expected - set(self._rounds), "has not begun")
        away = {part: "does not answer" for part, well in tuple(self._answers.items()) if not well}
        unmet = {
            part: "cannot be reached"
            for part, holds in tuple(self._conditions.items())
            if not holds()
        }
        return Finding(waited_for | away | unmet | self.live().wrong)
