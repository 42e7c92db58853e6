"""`byok analyze`: mails from files, through the queue, to results."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from events import AnalysisRequested, EventRefused, Operation, ProviderChoice, seal_input
from store import analyses
from workers.analyses.mail import MailUnreadable, read_eml
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
    table,
    wait_for,
)

LONGEST_NAME = 28
LARGEST_FILE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """A mail that was published as a request, or why it was not."""

    file: str
    request_id: str | None
    refused: str = ""


def analyze(
    account: AccountArgument,
    path: Annotated[str, typer.Argument(metavar="FILE.eml|DIR|-", help="- reads one mail.")],
    *,
    operation: Annotated[Operation, typer.Option(help="What to do.")] = Operation.CLASSIFY,
    provider: Annotated[ProviderChoice, typer.Option(help="Whom to ask.")] = ProviderChoice.AUTO,
    model: Annotated[str | None, typer.Option(help="A model of the provider.")] = None,
    wait: Wait = False,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Analyse mails. Example: `byok analyze acme inbox/ --wait --json`.

    A file that is no mail gets a line that says so; the others go on. Exit 1 where a file was
    refused.
    """
    with open_app() as app:
        require_account(app, account)
        asked = [
            publish_mail(
                app, account, name, raw, operation=operation, provider=provider, model=model
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
            show(signals_table(lines))
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
) -> Asked:
    """Seal one mail and publish its request. `raw` is the mail, or a sentence why there is none."""
    if isinstance(raw, str):
        return Asked(file, None, raw)
    request_id = f"req_{app.effects.new_id()}"
    try:
        mail = read_eml(raw)
        app.publisher.publish(
            AnalysisRequested(
                request_id=request_id,
                operation=operation,
                provider=provider,
                model=model,
                sealed_input=seal_input(
                    mail.to_json(),
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


def described(
    app: App, account: str, asked: Sequence[Asked], operation: Operation
) -> list[dict[str, Any]]:
    """One line per mail, in the order given, as `analyze --json` tells it."""
    ids = [one.request_id for one in asked if one.request_id is not None]
    with app.database.read() as connection:
        found = {one.request_id: one for one in analyses.find_many(connection, account, ids)}
    return [_described(one, found.get(one.request_id or ""), operation) for one in asked]


def signals_table(lines: Sequence[dict[str, Any]], *, limit: int | None = None) -> Any:
    """A table of results; with `limit` only the first ones."""
    made = table(
        "Signals", "mail", "state", "by", "paid by", "category", "urgency", "flags", ">sure"
    )
    for line in lines[:limit]:
        result = line["result"] or {}
        flags = [
            name.removeprefix("is_").replace("_", " ")
            for name, value in result.items()
            if value is True
        ]
        state = line["state"] + (f": {line['reason']}" if line["reason"] else "")
        confidence = result.get("confidence")
        made.add_row(
            _shortened(line["file"]),
            state,
            line["by"] or "",
            line["credential"] or "",
            result.get("category", ""),
            result.get("urgency", ""),
            ", ".join(flags),
            "" if confidence is None else f"{confidence:.2f}",
        )
    return made


def _shortened(name: str) -> str:
    """A file's name in at most as many characters as leave room for the signals."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _described(
    one: Asked, request: analyses.Request | None, operation: Operation
) -> dict[str, Any]:
    completed = request is not None and request.state == analyses.COMPLETED
    by_model = completed and request is not None and request.answered_by == "model"
    return {
        "file": one.file,
        "request_id": one.request_id,
        "state": request.state if request else ("refused" if one.refused else "queued"),
        "reason": one.refused or (request.reason if request else ""),
        "operation": operation.value,
        "provider": request.provider if request and by_model else None,
        "model": request.model if request and by_model else None,
        "credential": (request.credential or "none") if request else "none",
        "key_id": request.key_id if request and by_model else None,
        "by": request.answered_by if request else None,
        "result": request.result if request else None,
        "usage": request.usage if request else None,
        "attempts": request.attempt if request else 0,
    }


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
