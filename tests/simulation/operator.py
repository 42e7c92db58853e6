"""Operators in the simulation: they pause providers, accounts and queues, and let them go on."""

from typing import Any

from sqlalchemy.exc import OperationalError

from events import Provider
from tests.simulation.world import START, World
from workers.cli.pause import Kind, change
from workers.queues import ALL_QUEUES

KNOWN_MS = 1_000
"""Within this a pause is known to every process that is not held up."""


class Operators:
    """Draws pauses from the seed, and remembers since when each stands."""

    def __init__(self, outside: Any, process: Any) -> None:
        self._outside, self._process = outside, process
        self._world: World = outside.world
        self.version = 0
        """Counts up with each change, so that it can be told which one a process has read."""
        self._since: dict[tuple[str, str], tuple[int, int]] = {}

    def begin(self, until: int) -> None:
        """Schedule what is paused while upstream publishes, and somewhat later."""
        rng = self._world.rng
        if rng.random() < 0.7:
            return
        for _ in range(rng.randint(1, 3)):
            kind = rng.choice(list(Kind))
            names = {
                Kind.PROVIDER: tuple(Provider),
                Kind.ACCOUNT: ("ann", "ben"),
                Kind.QUEUE: ALL_QUEUES,
            }
            name = str(rng.choice(names[kind]))
            at = START + rng.randint(0, max(1, until - START))
            seconds = rng.choice((0.3, 3, 30, 100, 800))
            self._outside.at(at, lambda k=kind, n=name, s=seconds: self._spawn(k, n, s))

    def _spawn(self, kind: Kind, name: str, seconds: float) -> None:
        def work() -> None:
            self._change(kind, name, pausing=True)
            # Not cut short when the faults end: they want it so.
            self._process.sleep(seconds, until=lambda: False)
            self._change(kind, name, pausing=False)

        self._process.spawn(f"pause of {kind} {name}", work)

    def _change(self, kind: Kind, name: str, *, pausing: bool) -> None:
        while True:
            try:
                change(self._process.app, kind, name, "", pausing=pausing)
            except OperationalError:
                self._process.sleep(1.0)
            else:
                return

    def committed(self) -> None:
        """Look whether a pause was made or ended by the transaction that is durable now."""
        stands = {
            (row["kind"], row["name"])
            for row in self._outside.raw.execute(
                "SELECT kind, name FROM pauses WHERE resumed_at IS NULL"
            )
        }
        if stands == set(self._since):
            return
        self.version += 1
        self._world.note(f"paused are {sorted(stands)}")
        now = (self.version, self._world.now)
        self._since = {one: self._since.get(one, now) for one in stands}
        for process in self._outside.processes:
            process.app.pauses.wake()

    def since(self, kind: Kind, name: str) -> tuple[int, int] | None:
        """By which version, and since when, something is paused; `None` where it is not."""
        return self._since.get((kind.value, name))

    def is_known(self, process: Any, kind: Kind, name: str) -> bool:
        """Whether a process must hold still: it has read of a pause, or has had the time to."""
        found = self.since(kind, name)
        if found is None:
            return False
        version, at = found
        undisturbed = self._world.now - max(at, self._outside.calm_since) > KNOWN_MS
        return bool(process.app.pauses.version >= version or undisturbed)
