"""The `byok` command: its parts, each loaded when it is asked for.

Loading all of them takes longer than most commands run; a health probe pays for its own alone.
"""

import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from workers import coredumps
from workers.cli import exits
from workers.cli.guard import Stopped, guard

_PARTS = {
    "demo": "demo:demo",
    "up": "roles:up",
    "worker": "roles:worker",
    "scheduler": "roles:scheduler",
    "exporter": "roles:exporter",
    "doctor": "doctor:doctor",
    "top": "top.command:top",
    "healthcheck": "healthcheck:healthcheck",
    "keygen": "setup:keygen",
    "db": "setup:database",
    "account": "account:commands",
    "keys": "keys:commands",
    "pause": "pause:pause",
    "resume": "pause:resume",
    "paused": "pause:paused",
    "rekey": "rekey:rekey",
    "revalidate": "revalidate:revalidate",
    "analyze": "analyze:analyze",
    "usage": "usage:commands",
    "events": "events:events",
    "contract": "contract:commands",
    "failed": "failed:commands",
}
"""Where each command is: `module:function`, or the `typer.Typer` of a group."""


@dataclass(slots=True)
class _Commands(MutableMapping[str, Any]):
    """The commands by name. Naming them loads none."""

    loaded: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name not in self.loaded:
            self.loaded[name] = _load(name, _PARTS[name])
        return self.loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self.loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("the commands are fixed")

    def __iter__(self) -> Iterator[str]:
        return iter(_PARTS)

    def __len__(self) -> int:
        return len(_PARTS)


def _load(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(f"workers.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        group: Any = get_command(found)
        group.name = name
        for part, command in group.commands.items():
            command.epilog = exits.told(f"{name} {part}")
        return group
    alone = typer.Typer(add_completion=False)
    alone.command(name, epilog=exits.told(name))(found)
    return get_command(alone)


class _Group(TyperGroup):
    """The root. Ctrl-C comes out of it as `Stopped`: typer would exit without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped from None
        except TyperException as error:
            if isinstance(message := getattr(error, "message", None), str):
                cast("Any", error).message = _in_our_words(message)
            raise


def _in_our_words(message: str) -> str:
    """What typer says of wrong usage, which repeats what was typed."""
    from events.redaction import redact  # noqa: PLC0415 -- see the module

    if redact(message) != message:
        return "a key is never an argument: type it at the prompt, or pipe it in."
    # Pydantic's prefix, which says nothing.
    return message.replace("Value error, ", "")


def _tell_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"byok {metadata.version('byok-workers')}\n")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""


def _root_options() -> Any:
    typed = typer.Typer(add_completion=False)
    typed.callback()(_root)
    return get_command(typed).params


app = _Group(
    name="byok",
    commands=cast("dict[str, Any]", _Commands()),
    help="Bring Your Own Key: workers that store, validate and use users' AI provider keys.",
    params=_root_options(),
    epilog=exits.told(),
    no_args_is_help=True,
)


def run() -> None:
    """Run the command line and exit: 0 done, 1 refused or failed, 2 wrong usage, 130 stopped."""
    coredumps.forbid()
    sys.exit(guard(lambda: app.main(prog_name="byok")))


if __name__ == "__main__":
    run()
