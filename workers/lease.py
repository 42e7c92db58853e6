"""This process's lease: renewed every 3 s, without which no new work is started."""

import os
import socket
import threading

import structlog
from sqlalchemy import Connection

from store import leases
from store.engine import Database
from workers.effects import Effects

log = structlog.get_logger(__name__)


class LeaseLost(RuntimeError):
    """This process could not renew its lease, so it starts nothing new."""


class Lease:
    """A heartbeat row in the store, under a process id of its own.

    Where the lease was taken over (the process was stopped for longer than it lasts, or the
    database was away), a new process id is taken: attempts under the old one are `unknown` by then.
    """

    def __init__(self, database: Database, effects: Effects, role: str) -> None:
        self._database = database
        self._effects = effects
        self._role = role
        self._process_id = ""
        self._renewed = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        """Take a lease and keep it. Raises the database's error where it cannot be taken."""
        self._register()
        self._thread.start()

    def holder(self, connection: Connection) -> str:
        """The process id to work under, kept from being taken over until the transaction ends.

        Raises `LeaseLost` where the lease ran out, or may have.
        """
        process_id = self.name()
        if not leases.hold(connection, process_id):
            raise LeaseLost
        return process_id

    def name(self) -> str:
        """The process id to work under; whether it was taken over is not asked.

        Raises `LeaseLost` where the lease was not renewed in time.
        """
        process_id = self._process_id
        if not self.is_held():
            raise LeaseLost
        return process_id

    def is_held(self) -> bool:
        """Whether the lease was renewed within the time that it lasts."""
        return self._effects.monotonic() - self._renewed <= leases.DEAD_AFTER_SECONDS

    def is_alive(self) -> bool:
        """Whether the thread that renews still runs."""
        return self._thread.is_alive()

    def release(self) -> None:
        """End the lease, because the process is done."""
        self._stop.set()
        self._thread.join()
        with self._database.write() as connection:
            leases.end(connection, self._process_id, self._effects.now_ms())
        self._database.close()

    def renew(self) -> None:
        """Renew the lease, or take a new one where it was taken over."""
        # Read before the statement: the lease runs from when it was asked for.
        asked = self._effects.monotonic()
        with self._database.write() as connection:
            kept = leases.renew(connection, self._process_id, self._effects.now_ms())
        if kept:
            self._renewed = asked
        else:
            log.warning("lease_lost", role=self._role)
            self._register()

    def _register(self) -> None:
        asked = self._effects.monotonic()
        process_id = self._effects.new_id()
        with self._database.write() as connection:
            leases.register(
                connection,
                process_id,
                role=self._role,
                host=socket.gethostname(),
                pid=os.getpid(),
                now=self._effects.now_ms(),
            )
        self._process_id = process_id
        self._renewed = asked

    def _keep(self) -> None:
        while not self._effects.wait(leases.RENEW_SECONDS, self._stop):
            try:
                self.renew()
            except Exception as error:  # noqa: BLE001 -- without this thread nothing is ever done again
                log.warning("lease_not_renewed", role=self._role, error=type(error).__name__)
