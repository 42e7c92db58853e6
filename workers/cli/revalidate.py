"""`byok revalidate`: have keys validated now, for cron and after an incident."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from events import Provider
from store import pauses, validations
from workers.app import App
from workers.cli.console import AsJson, emit_json, err, open_app, out

PAUSE_SECONDS = 0.25


def revalidate(
    *,
    due: Annotated[bool, typer.Option("--due", help="The keys that are due.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All stored keys.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have keys validated again, at BYOK_VALIDATIONS_PER_SECOND per provider.

    Example: `byok revalidate --due`. It sends the workers what a scheduler would send, and does
    no harm next to one. `--all` marks every key for the scheduler, spread out at that pace, and
    tells how long it will take.
    """
    if due == every:
        raise typer.BadParameter("give one of --due and --all.")
    with open_app() as app:
        told = _send_due(app, silent=as_json) if due else _mark_all(app, silent=as_json)
    if as_json:
        emit_json(told)
    elif due:
        out.print(
            f"{told['sent']:,} keys sent to be validated, {told['put_off']:,} put off because "
            "requests proved them.",
            highlight=False,
        )
    else:
        out.print(
            f"{told['marked']:,} keys marked; the last one's turn is in {told['seconds']:,} s.",
            highlight=False,
        )


def _send_due(app: App, *, silent: bool) -> dict[str, int]:
    # Imported here: it loads the providers' verdicts, which other commands do without.
    from workers.keys.revalidation import send_due  # noqa: PLC0415

    sent = put_off = 0
    now = app.effects.now_ms()
    with app.database.read() as connection:
        providers = [p for p in Provider if not pauses.is_paused(connection, pauses.PROVIDER, p)]
        total = sum(validations.count_due(connection, provider, now) for provider in providers)
    for provider in sorted(set(Provider) - set(providers)):
        err.print(f"{provider} is paused: its keys wait.", highlight=False)
    with _progress("Sending", silent=silent) as progress:
        task = progress.add_task("", total=total)
        # Only what is due at the start: what becomes due meanwhile is the next run's.
        while sent + put_off < total:
            swept = [send_due(app, provider) for provider in providers]
            found = sum(each.sent + each.put_off for each in swept)
            sent += sum(each.sent for each in swept)
            put_off += sum(each.put_off for each in swept)
            progress.update(task, completed=sent + put_off)
            if not found:
                if not _any_due(app, providers):
                    # A scheduler was faster.
                    break
                app.effects.wait(PAUSE_SECONDS, app.stopping)
    return {"sent": sent, "put_off": put_off}


def _any_due(app: App, providers: Sequence[Provider]) -> bool:
    now = app.effects.now_ms()
    with app.database.read() as connection:
        return any(validations.any_due(connection, provider, now) for provider in providers)


def _mark_all(app: App, *, silent: bool) -> dict[str, int]:
    now = app.effects.now_ms()
    rate = app.settings.validations_per_second
    most = marked = 0
    with _progress("Marking", silent=silent) as progress:
        task = progress.add_task("", total=None)
        for provider in Provider:
            of_provider = 0
            for count in validations.ask_for_all(app.database, provider, now, rate):
                of_provider += count
                progress.advance(task, count)
            marked += of_provider
            most = max(most, of_provider)
    return {"marked": marked, "seconds": int(max(0, most - 1) / rate)}


def _progress(what: str, *, silent: bool) -> Progress:
    return Progress(
        TextColumn(f"{what} keys"),
        BarColumn(),
        MofNCompleteColumn(),
        console=err,
        transient=True,
        disable=silent or not err.is_terminal,
    )
