"""`byok analyze`: mails from files, through the queue, to results."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from events import (
    AnalysisInput,
    AnalysisRequested,
    EventRefused,
    MailInput,
    Operation,
    ProviderChoice,
    ThreadInput,
    ThreadMessage,
    seal_input,
)
from events.analyses import MODEL_NAME
from store import analyses
from workers.analyses.mail import MailUnreadable, body_text, read_eml
from workers.app import App
from workers.cli.account import AccountArgument, require_account
from workers.cli.console import (
    AsJson,
    Timeout,
    Wait,
    emit_json,
    err,
    open_app,
    refuse,
    show,
    wait_for,
)
from workers.cli.results import Asked, described, endings_table, results_table

LARGEST_FILE = 64 * 1024 * 1024

_ADDRESS = re.compile(r"[^\s<>,;:\"()@]{1,64}@[^\s<>,;:\"()@]{1,255}")
"""Lengths by RFC 5321, 4.5.3.1."""


def _an_address(given: str | None) -> str | None:
    if given is not None and not _ADDRESS.fullmatch(given):
        raise typer.BadParameter("that is no e-mail address")
    return given


def _a_model(given: str | None) -> str | None:
    if given is not None and not MODEL_NAME.fullmatch(given):
        raise typer.BadParameter("that is no name of a model")
    return given


def analyze(
    account: AccountArgument,
    path: Annotated[str, typer.Argument(metavar="FILE.eml|DIR|-", help="- is standard input.")],
    *,
    operation: Annotated[Operation, typer.Option(help="The operation.")] = Operation.CLASSIFY,
    provider: Annotated[ProviderChoice, typer.Option(help="The provider.")] = ProviderChoice.AUTO,
    model: Annotated[
        str | None, typer.Option(help="Another model of the provider.", callback=_a_model)
    ] = None,
    own_address: Annotated[
        str | None,
        typer.Option(
            help="For thread_state: the mailbox's address. Default: the first To of the mail.",
            callback=_an_address,
        ),
    ] = None,
    wait: Wait = False,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Analyse mails. Example: `byok analyze acme inbox/ --wait --json`.

    With `--operation thread_state`, each mail is a thread of one message. A file that is not a mail
    is reported, and the others are still analysed.
    """
    with open_app() as app:
        require_account(app, account)
        asked = [
            publish_mail(
                app,
                account,
                name,
                raw,
                operation=operation,
                provider=provider,
                model=model,
                own_address=own_address,
            )
            for name, raw in _mails(path)
        ]
        for one in asked:
            if one.refused:
                err.print(f"{one.file}: {one.refused}", highlight=False, soft_wrap=True)
        ids = [one.request_id for one in asked if one.request_id is not None]
        if wait and ids:
            wait_for(app, "the analyses", timeout, lambda: not unfinished(app, account, ids))
        lines = described(app, account, asked, operation)
        if as_json:
            for line in lines:
                emit_json(line)
        else:
            show(results_table(lines, operation))
            show(endings_table({account: lines}))
    refused = sum(1 for one in asked if one.refused)
    if refused:
        refuse(f"{refused} of {len(asked)} files were refused.")


def publish_mail(
    app: App,
    account: str,
    file: str,
    raw: bytes | str,
    *,
    operation: Operation,
    provider: ProviderChoice,
    model: str | None = None,
    own_address: str | None = None,
) -> Asked:
    """Seal one mail and publish its request. `raw` is the mail, or a sentence why there is none."""
    if isinstance(raw, str):
        return Asked(file, None, raw)
    request_id = f"req_{app.effects.new_id()}"
    try:
        given = _input(read_eml(raw), operation, own_address)
        app.publisher.publish(
            AnalysisRequested(
                request_id=request_id,
                operation=operation,
                provider=provider,
                model=model,
                sealed_input=seal_input(
                    given.to_json(),
                    app.settings.sealing_public,
                    account=account,
                    request_id=request_id,
                ),
            ),
            account=account,
        )
    except (MailUnreadable, EventRefused) as error:
        return Asked(file, None, str(error))
    return Asked(file, request_id)


def unfinished(app: App, account: str, request_ids: Sequence[str]) -> int:
    """How many of the requests have not ended."""
    with app.database.read() as connection:
        found = analyses.find_many(connection, account, request_ids)
    return len(request_ids) - sum(1 for one in found if one.state in analyses.TERMINAL)


def _input(mail: MailInput, operation: Operation, own_address: str | None) -> AnalysisInput:
    """What the operation reads: the mail, or a thread of this one message.

    Raises `MailUnreadable` where nothing says whose thread it is.
    """
    if operation is not Operation.THREAD_STATE:
        return mail
    message = ThreadMessage(
        sender=mail.sender, to=mail.to, cc=mail.cc, date=mail.date, text=body_text(mail)
    )
    found = _ADDRESS.search(mail.to)
    address = own_address or (found and found[0])
    if not address:
        raise MailUnreadable(
            "The mail's To header names no address: say whose mailbox it is from with "
            "--own-address."
        )
    return ThreadInput(own_address=address, messages=(message,))


def _mails(path: str) -> Iterator[tuple[str, bytes | str]]:
    if path == "-":
        yield "-", sys.stdin.buffer.read(LARGEST_FILE)
        return
    given = Path(path)
    if not given.exists():
        refuse(f"There is no file or directory at {path}.")
    files = sorted(given.glob("*.eml")) if given.is_dir() else [given]
    if not files:
        refuse(f"There is no .eml file in {path}.")
    for file in files:
        yield file.name, _read(file)


def _read(file: Path) -> bytes | str:
    try:
        if file.stat().st_size > LARGEST_FILE:
            return f"The file is above {LARGEST_FILE // 1024 // 1024} MiB: that is no mail."
        return file.read_bytes()
    except OSError as error:
        return f"The file cannot be read ({error.strerror})."
