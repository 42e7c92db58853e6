"""`byok contract`: the event contract for publishers in any language."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import deploy
from events.contract import REFUSALS, Changed, check_vectors, read_vectors
from events.contract import write as write_files
from workers.cli.console import AsJson, emit_json, out, refuse, show, table
from workers.settings import Settings

commands = typer.Typer(no_args_is_help=True, help="The event contract, for publishers.")

FILES = Path(deploy.__path__[0]) / "contracts"
"""Where the generated files lie, in a checkout and in an installed package."""

Directory = Annotated[
    Path, typer.Option("--directory", help="Where the files are.", show_default="deploy/contracts")
]


@commands.command()
def environment(*, as_json: AsJson = False) -> None:
    """Print the variables that a publisher needs next to embedded workers.

    Example: `byok contract environment > publisher.env`, then `set -a && . ./publisher.env`.
    """
    settings = Settings.load()
    if not settings.embedded:
        refuse(
            "The queue is a service of its own here: give a publisher an address with a user of "
            "its own, and BYOK_SEALING_PUBLIC_KEY as `byok keygen sealing` printed it."
        )
    variables = {
        "BYOK_BROKER_URL": settings.effective_broker_url,
        "BYOK_REDIS_URL": settings.effective_redis_url,
        "BYOK_SEALING_PUBLIC_KEY": str(settings.sealing_public),
        "BYOK_SOURCE": "byok/publisher",
    }
    if as_json:
        emit_json(variables)
    else:
        for name, value in variables.items():
            out.print(f"{name}={shlex.quote(value)}", markup=False, highlight=False, soft_wrap=True)


@commands.command()
def vectors(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Check our own code against them.")
    ] = False,
    directory: Directory = FILES,
    as_json: AsJson = False,
) -> None:
    """Print the test vectors, or check our own code against them.

    Example: `byok contract vectors --check`; for another implementation `byok contract vectors
    --json > vectors.json`.
    """
    try:
        held = read_vectors(directory)
    except (OSError, ValueError):
        refuse(f"There is no vectors.json to be read in {directory}: run `byok contract write`.")
    if not check:
        emit_json(held) if as_json else out.print_json(data=held)
        return
    checked = check_vectors(held)
    if as_json:
        emit_json(
            {
                "ok": all(one.ok for one in checked),
                "vectors": [
                    {
                        "group": one.group,
                        "name": one.name,
                        "expected": one.expected,
                        "ok": one.ok,
                        "problems": one.problems,
                    }
                    for one in checked
                ],
            }
        )
    else:
        made = table("Test vectors", "group", "name", "must be", "")
        for one in checked:
            mark = (
                "[green]ok[/green]" if one.ok else f"[red]{escape('; '.join(one.problems))}[/red]"
            )
            made.add_row(one.group.replace("_", " "), one.name, one.expected, mark)
        show(made)
    wrong = [one.name for one in checked if not one.ok]
    if wrong:
        refuse(f"{len(wrong)} of {len(checked)} vectors do not hold: {', '.join(wrong)}.")


@commands.command()
def write(*, directory: Directory = FILES, as_json: AsJson = False) -> None:
    """Write schemas, AsyncAPI document and vectors again. Example: `byok contract write`.

    Released vectors stay as they are.
    """
    try:
        changed = write_files(directory)
    except Changed as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{directory} cannot be written ({error.strerror}).")
    if as_json:
        emit_json({"changed": changed})
    else:
        for path in changed or ["Nothing to do."]:
            out.print(path, highlight=False, soft_wrap=True)


@commands.command()
def refusals(*, as_json: AsJson = False) -> None:
    """List every reason for which an event is refused. Example: `byok contract refusals`."""
    if as_json:
        emit_json(
            {
                "refusals": [
                    {"reason": one.reason, "by": one.by.value, "sentence": one.sentence}
                    for one in REFUSALS
                ]
            }
        )
        return
    made = table("Refusals", "reason", "by", "sentence")
    for one in REFUSALS:
        made.add_row(one.reason, one.by.value, one.sentence)
    show(made)
