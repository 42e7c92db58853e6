"""Loaded by every interpreter whose `PYTHONPATH` names this directory, before anything else.

In a worker it lays traps at moments that cannot be hit from outside. A trap is set by writing the
moment's name to the file that `TRAP` names; it goes off once.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BEFORE_COMMIT = "before the commit"
AFTER_COMMIT = "after the commit"
BEFORE_VERDICT = "before the verdict"
DATABASE_AWAY = "the database is away"
RAISE_READING = "raise while reading, with what is in hand in the error's text"
RAISE_CALLING = "raise while calling, with what is in hand in the error's text"


def _goes_off(moment: str) -> bool:
    """Whether the trap is set for `moment`; of several threads, one gets it."""
    trap = Path(os.environ["TRAP"])
    with suppress(OSError):
        if trap.read_text() == moment:
            trap.unlink()
            return True
    return False


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _lay_traps() -> None:
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415 -- in workers only

    from store.engine import Database  # noqa: PLC0415
    from workers.analyses import run  # noqa: PLC0415
    from workers.keys import lifecycle, validation  # noqa: PLC0415

    complete, conclude, write = run.complete, validation._conclude, Database.write

    def trapped_complete(*arguments: Any) -> None:
        if _goes_off(BEFORE_COMMIT):
            _die()
        complete(*arguments)
        if _goes_off(AFTER_COMMIT):
            _die()

    def trapped_conclude(*arguments: Any) -> None:
        if _goes_off(BEFORE_VERDICT):
            _die()
        conclude(*arguments)

    @contextmanager
    def trapped_write(database: Database) -> Iterator[Any]:
        # This one stays until it is taken away.
        with suppress(OSError):
            if Path(os.environ["TRAP"]).read_text() == DATABASE_AWAY:
                raise OperationalError("", None, Exception(DATABASE_AWAY))
        with write(database) as connection:
            yield connection

    def telling(moment: str, act: Any, told: Any) -> Any:
        def trapped(*arguments: Any, **named: Any) -> Any:
            # These stay until they are taken away.
            with suppress(OSError):
                if Path(os.environ["TRAP"]).read_text() == moment:
                    raise RuntimeError(told(*arguments))
            return act(*arguments, **named)

        return trapped

    def secret(_app: Any, _key: Any, secret: Any) -> str:
        return str(secret.get_secret_value())

    run.read_input = telling(RAISE_READING, run.read_input, lambda _, payload: payload.decode())
    lifecycle.check_shape = telling(RAISE_READING, lifecycle.check_shape, lambda _, pasted: pasted)
    run._ask = telling(RAISE_CALLING, run._ask, lambda _app, _claimed, given: given.text)
    validation._ask = telling(RAISE_CALLING, validation._ask, secret)
    run.complete = trapped_complete
    validation._conclude = trapped_conclude
    Database.write = trapped_write  # type: ignore[method-assign]


if "worker" in sys.orig_argv and "TRAP" in os.environ:
    _lay_traps()
