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


def _away(opening: Any) -> Any:
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415 -- in workers only

    @contextmanager
    def trapped(database: Any) -> Iterator[Any]:
        # This one stays until it is taken away.
        with suppress(OSError):
            if Path(os.environ["TRAP"]).read_text() == DATABASE_AWAY:
                raise OperationalError("", None, Exception(DATABASE_AWAY))
        with opening(database) as connection:
            yield connection

    return trapped


def _lay_traps() -> None:
    from store.engine import Database  # noqa: PLC0415 -- in workers only
    from workers.analyses import claim, sending  # noqa: PLC0415 -- as above
    from workers.keys import lifecycle, validation  # noqa: PLC0415 -- as above

    complete, conclude = sending.complete, validation._conclude

    def trapped_complete(*arguments: Any) -> Any:
        if _goes_off(BEFORE_COMMIT):
            _die()
        done = complete(*arguments)
        if _goes_off(AFTER_COMMIT):
            _die()
        return done

    def trapped_conclude(*arguments: Any) -> None:
        if _goes_off(BEFORE_VERDICT):
            _die()
        conclude(*arguments)

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

    claim.read_input = telling(RAISE_READING, claim.read_input, lambda _, payload: payload.decode())
    lifecycle.check_shape = telling(RAISE_READING, lifecycle.check_shape, lambda _, pasted: pasted)
    sending._ask = telling(RAISE_CALLING, sending._ask, lambda _app, _claimed, asked: asked.user)
    validation._ask = telling(RAISE_CALLING, validation._ask, secret)
    sending.complete = trapped_complete
    validation._conclude = trapped_conclude
    Database.write = _away(Database.write)  # type: ignore[method-assign]  # a trap, by patch
    Database.brief = _away(Database.brief)  # type: ignore[method-assign]  # a trap, by patch


if "worker" in sys.orig_argv and "TRAP" in os.environ:
    _lay_traps()
