"""What is paused, as this process knows it: read again and again by a thread of its own.

Claims and consumers look here, which costs them nothing. So a pause is honoured within
`LOOK_SECONDS` and the time of one read. While the database is away the last that is known holds.
"""

import threading
from collections.abc import Callable

import structlog

from store import pauses
from store.engine import Database
from store.pauses import Paused
from workers.effects import Effects

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5


class PauseWatch:
    """Knows what is paused once it was started. `open_database` gives it a connection that waits
    for nobody else's work.
    """

    def __init__(self, open_database: Callable[[], Database], effects: Effects) -> None:
        self._open = open_database
        self._effects = effects
        self._known = Paused()
        self._stop = threading.Event()
        self._database: Database | None = None
        self._started = False
        self._thread = threading.Thread(target=self._keep, name="pauses", daemon=True)

    @property
    def known(self) -> Paused:
        """What was paused when it was last read."""
        return self._known

    def start(self) -> None:
        """Read what is paused, and go on doing so. Raises the database's error."""
        self.look()
        self._started = True
        self._thread.start()

    def look(self) -> None:
        """Read what is paused now. Raises the database's error."""
        if self._database is None:
            self._database = self._open()
        with self._database.look() as connection:
            self._known = pauses.paused(pauses.standing(connection))

    def stop(self) -> None:
        """Read no more."""
        self._stop.set()
        if self._started:
            self._thread.join()
        if self._database is not None:
            self._database.close()

    def is_alive(self) -> bool:
        """Whether the thread that reads still runs."""
        return self._thread.is_alive()

    def _keep(self) -> None:
        told = False
        while not self._effects.wait(LOOK_SECONDS, self._stop):
            try:
                self.look()
                told = False
            except Exception as error:  # noqa: BLE001 -- without this thread no pause ever ends
                if not told:
                    log.warning("pauses_not_read", error=type(error).__name__)
                told = True
