"""What `byok analyze` and the demo tell of requests: one line per mail, and tables of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape

from events import Operation
from store import analyses
from workers.analyses import texts
from workers.app import App
from workers.cli.console import table

LONGEST_NAME = 28


@dataclass(frozen=True, slots=True)
class Asked:
    """A mail that was published as a request, or why it was not."""

    file: str
    request_id: str | None
    refused: str = ""


def described(
    app: App, account: str, asked: Sequence[Asked], operation: Operation
) -> list[dict[str, Any]]:
    """One line per mail, in the order given, as `analyze --json` tells it.

    Free text is decrypted for it. Raises `DoesNotOpen` or `MasterKeyMissing`.
    """
    ids = [one.request_id for one in asked if one.request_id is not None]
    with app.database.read() as connection:
        found = {one.request_id: one for one in analyses.find_many(connection, account, ids)}
        said = {
            request_id: texts.opened(app, connection, account, request_id, text)
            for request_id, text in analyses.result_texts(connection, account, ids).items()
        }
    return [
        _described(
            one,
            found.get(one.request_id or ""),
            said.get(one.request_id or "", {}),
            operation,
        )
        for one in asked
    ]


def results_table(lines: Sequence[dict[str, Any]], operation: Operation) -> Any:
    """A table of an operation's results."""
    if operation is Operation.CLASSIFY:
        return signals_table(lines)
    named = _found_columns(operation)
    made = table(operation.value, "mail", "state", "by", "paid by", *named)
    for line in lines:
        result = line["result"] or {}
        made.add_row(*_start(line), *(escape(str(result.get(name, ""))) for name in named))
    return made


def signals_table(lines: Sequence[dict[str, Any]], *, limit: int | None = None) -> Any:
    """A table of signals; with `limit` only the first ones."""
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
        confidence = result.get("confidence")
        made.add_row(
            *_start(line),
            result.get("category", ""),
            result.get("urgency", ""),
            ", ".join(flags),
            "" if confidence is None else f"{confidence:.2f}",
        )
    return made


def endings_table(lines: Mapping[str, Sequence[dict[str, Any]]]) -> Any:
    """How many mails ended how, by account: by what they were answered and whose key paid."""
    made = table("How the mails ended", "account", "state", "by", "paid by", ">mails")
    for account, of_account in lines.items():
        endings = Counter(
            (
                line["state"] + (f": {line['reason']}" if line["reason"] else ""),
                line["by"] or "",
                line["credential"] if line["by"] == "model" else "",
            )
            for line in of_account
        )
        for (state, by, credential), count in sorted(endings.items()):
            made.add_row(account, state, by, credential, str(count))
    return made


def _found_columns(operation: Operation) -> tuple[str, ...]:
    match operation:
        case Operation.THREAD_STATE:
            return ("state", "confidence", "priority")
        case Operation.REPLY:
            return ("reply",)
        case _:
            return ("summary",)


def _start(line: Mapping[str, Any]) -> tuple[str, str, str, str]:
    state = line["state"] + (f": {line['reason']}" if line["reason"] else "")
    return _shortened(line["file"]), state, line["by"] or "", line["credential"] or ""


def _shortened(name: str) -> str:
    """A file's name in at most as many characters as leave room for the signals."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _described(
    one: Asked,
    request: analyses.Request | None,
    said: Mapping[str, str],
    operation: Operation,
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
        "fallback_reason": request.fallback_reason if request and by_model else None,
        "by": request.answered_by if request else None,
        "prompt_version": request.prompt_version if request else None,
        "result": {**request.result, **said} if request and request.result is not None else None,
        "usage": request.usage if request else None,
        "attempts": request.attempt if request else 0,
    }
