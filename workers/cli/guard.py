"""What becomes of a command that fails: one sentence on stderr and an exit code, no traceback.

What can be raised is looked up only when it was: loading it costs more than most commands.
"""

import sys
from collections.abc import Callable
from typing import Any

FAILED = 1
STOPPED = 130
"""As shells have it for a process that SIGINT ended: 128 and the signal's number."""


class Refusal(Exception):
    """A command cannot do what it was asked. The message is one sentence; exit code 1."""


class Stopped(Exception):
    """The command was stopped by Ctrl-C."""


def guard(command: Callable[[], Any]) -> int:
    """Run a command; turn what can go wrong outside into one sentence. The exit code."""
    try:
        command()
    except Refusal as refusal:
        _say(str(refusal))
        return FAILED
    except (Stopped, KeyboardInterrupt):
        _say("Stopped.")
        return STOPPED
    except BrokenPipeError:
        # The reader of our output has what it wants. Nothing more may be written to it.
        sys.stdout = sys.stderr
        return FAILED
    except Exception as error:
        from workers.cli.failures import sentence_for  # noqa: PLC0415 -- see the module

        sentence = sentence_for(error)
        if sentence is None:
            raise
        if isinstance(error, OSError) and error.errno is not None:
            # It may be our output that cannot be written: what is left of it is not tried again.
            sys.stdout = sys.stderr
        _say(sentence)
        return FAILED
    return 0


def _say(sentence: str) -> None:
    from rich.console import Console  # noqa: PLC0415 -- see the module

    from events.redaction import redact  # noqa: PLC0415

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("byok:", style="red", end=" ")
    console.print(redact(sentence), markup=False)
