"""`byok demo`: the main job on real mail, from nothing."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from events import (
    AccountUpdated,
    CreditPeriod,
    KeyAdded,
    Operation,
    Provider,
    ProviderChoice,
)
from store import accounts, analyses, outbox
from workers import logs
from workers.app import App
from workers.cli.analyze import publish_mail, unfinished
from workers.cli.console import AsJson, emit_json, err, out, refuse, show, table, wait_for
from workers.cli.keys import KeySettings, described_keys, give_key, is_settled, keys_table
from workers.cli.results import Asked, described, endings_table, signals_table
from workers.cli.usage import described as described_card
from workers.cli.usage import read_card, show_card
from workers.effects import moment
from workers.settings import Settings
from workers.supervisor import Supervisor, stop_on_signals

MAILS = Path(__file__).parents[2] / "tests" / "data" / "mail"
OPERATION = Operation.CLASSIFY

OWN_KEYS = "demo-own-keys"
PLATFORM = "demo-platform"
INVALID_KEY = "demo-invalid-key"

CARD_DAYS = 30
PLATFORM_CREDITS = 25
MAILS_FOR_INVALID_KEY = 5
SIGNALS_SHOWN = 24
SECONDS_FOR_MAILS = 300.0

_SANDBOX_KEYS = {
    Provider.OPENAI: "sk-proj-sandbox-demo-openai-not-a-real-key",
    Provider.ANTHROPIC: "sk-ant-api03-sandbox-demo-anthropic-not-a-real-key",
}
_REFUSED_KEY = "sk-proj-sandbox-invalid-demo-not-a-real-key"


@dataclass(frozen=True, slots=True)
class _Batch:
    """The mails that were asked about for one account."""

    account: str
    asked: Sequence[Asked]

    @property
    def ids(self) -> list[str]:
        return [one.request_id for one in self.asked if one.request_id is not None]


def demo(
    mails: Annotated[
        Path, typer.Option(help="A directory of .eml files.", exists=True, file_okay=False)
    ] = MAILS,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the main job on real mail: everything embedded, started and stopped again.

    Example: `byok demo`. With BYOK_PLATFORM_OPENAI_KEY or BYOK_PLATFORM_ANTHROPIC_KEY set, that
    provider is the real one, and the key also stands for the account's own.
    """
    files = sorted(mails.glob("*.eml"))
    if not files:
        refuse(f"There is no .eml file in {mails}.")
    logs.set_up("warning")
    settings = Settings.load_apart(Settings.load().state_dir / "demo")
    shutil.rmtree(settings.state_dir, ignore_errors=True)
    settings.prepare_state_dir()
    # What goes on meanwhile; with --json nothing is on stdout but the object.
    progress = Console(quiet=True) if as_json else out
    _say_who_answers(settings, progress)
    app = App(settings, role="demo")
    # Ctrl-C is seen between steps: in the middle of one it could leave a child that nobody stops.
    stop_on_signals(app.stopping, stdin=False)
    supervisor = Supervisor(settings, app.stopping, settings.state_dir / "demo.log")
    try:
        with progress.status(
            "Starting Valkey, the store, a worker, the scheduler and the exporter"
        ):
            supervisor.start()
        batches, again = _run(app, files, progress)
        if as_json:
            emit_json(_told(app, batches, again))
        else:
            _show(app, batches, again)
    finally:
        app.close()
        with progress.status("Stopping"):
            supervisor.stop()


def _run(app: App, files: Sequence[Path], progress: Console) -> tuple[list[_Batch], _Batch]:
    """Do the main job: what was asked for each account, and the same mails once more."""
    _set_accounts(app)
    _give_keys(app, progress)
    batches = [
        _Batch(OWN_KEYS, _publish(app, OWN_KEYS, files, tuple(Provider))),
        _Batch(PLATFORM, _publish(app, PLATFORM, files, ())),
        _Batch(INVALID_KEY, _publish(app, INVALID_KEY, files[:MAILS_FOR_INVALID_KEY], ())),
    ]
    _watch(app, batches, progress)
    again = _Batch(OWN_KEYS, _publish(app, OWN_KEYS, files, tuple(Provider)))
    _watch(app, [again], progress)
    wait_for(app, "the usage events", 30, lambda: _all_usage_recorded(app))
    return batches, again


def _show(app: App, batches: Sequence[_Batch], again: _Batch) -> None:
    lines = {b.account: described(app, b.account, b.asked, OPERATION) for b in batches}
    for account in (OWN_KEYS, INVALID_KEY):
        show(keys_table(f"Keys of {account}", described_keys(app, account)))
    show(signals_table(lines[OWN_KEYS], limit=SIGNALS_SHOWN))
    if len(lines[OWN_KEYS]) > SIGNALS_SHOWN:
        out.print(f"… and {len(lines[OWN_KEYS]) - SIGNALS_SHOWN} more.\n", highlight=False)
    show(endings_table(lines))
    show(_without_ai(lines[OWN_KEYS], described(app, OWN_KEYS, again.asked, OPERATION)))
    for batch in batches:
        show_card(batch.account, CARD_DAYS, read_card(app, batch.account, CARD_DAYS))


def _told(app: App, batches: Sequence[_Batch], again: _Batch) -> dict[str, Any]:
    def mails(batch: _Batch) -> dict[str, Any]:
        return {batch.account: described(app, batch.account, batch.asked, OPERATION)}

    names = [batch.account for batch in batches]
    return {
        "answered_by_sandbox": [p.value for p in Provider if app.settings.uses_sandbox(p)],
        "keys": {name: described_keys(app, name) for name in names},
        "mails": {name: told for batch in batches for name, told in mails(batch).items()},
        "mails_again": mails(again),
        "usage": {
            name: described_card(name, "UTC", CARD_DAYS, read_card(app, name, CARD_DAYS))
            for name in names
        },
    }


def _say_who_answers(settings: Settings, progress: Console) -> None:
    for provider in Provider:
        if settings.uses_sandbox(provider):
            progress.print(
                f"{provider.value}: answered by the provider sandbox, which is not a model.",
                highlight=False,
            )
        else:
            err.print(f"{provider.value}: the real provider; calls are billed.", highlight=False)


def _set_accounts(app: App) -> None:
    now = moment(app.effects)
    period = CreditPeriod(start=now - timedelta(days=1), end=now + timedelta(days=30))
    for account, plan, allowance in (
        (OWN_KEYS, "business", 100),
        (PLATFORM, "pro", PLATFORM_CREDITS),
        (INVALID_KEY, "business", 100),
    ):
        app.publisher.publish(
            AccountUpdated(
                revision=1, plan=plan, ai_consent=True, credits=allowance, credit_period=period
            ),
            account=account,
        )

    def known() -> bool:
        with app.database.read() as connection:
            return all(
                accounts.find(connection, name) for name in (OWN_KEYS, PLATFORM, INVALID_KEY)
            )

    wait_for(app, "the accounts", 30, known)


def _give_keys(app: App, progress: Console) -> None:
    """Connect the keys, and show them as they go from Pending to Valid and Invalid."""
    given = [
        give_key(app, KeyAdded, account, provider, pasted, KeySettings())
        for account, provider, pasted in _pasted(app.settings)
    ]

    def shown() -> Any:
        keys = [key for name in (OWN_KEYS, INVALID_KEY) for key in described_keys(app, name)]
        return keys_table("Keys", keys)

    with Live(shown(), console=progress, transient=True, refresh_per_second=10) as live:

        def settled() -> bool:
            live.update(shown())
            return all(is_settled(app, key_id) for key_id in given)

        wait_for(app, "the keys' verdicts", 60, settled)


def _pasted(settings: Settings) -> list[tuple[str, Provider, str]]:
    own = []
    for provider in Provider:
        platform = settings.platform_key(provider)
        real = platform is not None and not settings.uses_sandbox(provider)
        key = platform.get_secret_value() if platform and real else _SANDBOX_KEYS[provider]
        own.append((OWN_KEYS, provider, key))
    return [*own, (INVALID_KEY, Provider.OPENAI, _REFUSED_KEY)]


def _publish(
    app: App, account: str, files: Sequence[Path], providers: Sequence[Provider]
) -> list[Asked]:
    choices = [ProviderChoice(provider.value) for provider in providers] or [ProviderChoice.AUTO]
    return [
        publish_mail(
            app,
            account,
            file.name,
            file.read_bytes(),
            operation=OPERATION,
            provider=choices[number % len(choices)],
        )
        for number, file in enumerate(files)
    ]


def _watch(app: App, batches: Sequence[_Batch], shown_on: Console) -> None:
    total = sum(len(batch.ids) for batch in batches)
    with Progress(
        TextColumn("Analysing mails"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=shown_on,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=total)

        def ended() -> bool:
            left = sum(unfinished(app, batch.account, batch.ids) for batch in batches)
            progress.update(task, completed=total - left)
            return not left

        wait_for(app, "the analyses", SECONDS_FOR_MAILS, ended)


def _all_usage_recorded(app: App) -> bool:
    with app.database.read() as connection:
        return outbox.USAGE not in outbox.backlog(connection)


def _without_ai(first: Sequence[dict[str, Any]], again: Sequence[dict[str, Any]]) -> Any:
    """How many of the mails needed no AI: when they came, and when they came once more."""
    columns = ("", ">rules", ">reuse", ">a model", ">nothing")
    made = table("What answered the shipped mails", *columns)
    for name, lines in (("when they came", first), ("when they came again", again)):
        by = Counter(line["by"] if line["state"] == analyses.COMPLETED else None for line in lines)
        counts = (by["rules"], by["reuse"], by["model"], by[None])
        made.add_row(name, *(str(count) for count in counts))
    return made
