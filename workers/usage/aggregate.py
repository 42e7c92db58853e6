"""The aggregator: a batch of usage rows becomes ledger rows, rollups and counts, in one commit."""

import structlog
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from events import Envelope, EventRefused, UsageRecorded
from events.usage import USAGE_QUEUE
from store import ledger, setaside
from store.engine import after_commit
from store.ledger import LedgerRow
from store.vault import content_digest
from workers.app import App
from workers.boundary import Handlers

log = structlog.get_logger(__name__)

_ROW = TypeAdapter(LedgerRow)

CONFLICT = "usage_conflict"
"""Why a row is kept aside that says something else than the ledger's row of its id."""
EXPIRED = "usage_expired"
"""Why a row is kept aside whose month is not on the ledger any more."""

_SENTENCES = {
    CONFLICT: "The ledger has a row of this id that says something else: find out which is true; "
    "the ledger was left as it is.",
    EXPIRED: "The row is of a month that retention took off the ledger, so it cannot be told "
    "whether it was counted: it was not counted now.",
}


def recorded(app: App, envelope: Envelope, data: UsageRecorded) -> None:
    """Write the batch. Raises `EventRefused` where a row is not one of this version's.

    A row that is on the ledger already with other content is kept aside, and the ledger's row
    stays as it is.
    """
    try:
        rows = [
            _ROW.validate_json(row) if isinstance(row, str) else _ROW.validate_python(row)
            for row in data.rows
        ]
    except ValidationError:
        raise EventRefused(
            "invalid_event",
            "A usage row has other fields than this version's ledger: upgrade the workers.",
        ) from None
    texts = [
        given if isinstance(given, str) else row.to_json()
        for given, row in zip(data.rows, rows, strict=True)
    ]
    with app.database.write() as connection:
        outcome = ledger.record(connection, rows, app.effects.now_ms(), texts_of=texts)
        _keep_aside(app, connection, envelope, CONFLICT, outcome.conflicting)
        _keep_aside(app, connection, envelope, EXPIRED, outcome.expired)
    oldest = min((row.at for row in rows), default=None)
    if outcome.new and oldest is not None:
        app.instruments.usage_lag.observe((app.effects.now_ms() - oldest) / 1000)
    for name, count in (
        ("new", len(outcome.new)),
        ("repeated", len(outcome.repeated)),
        ("conflicting", len(outcome.conflicting)),
        ("expired", len(outcome.expired)),
    ):
        app.instruments.usage_rows.labels(name).inc(count)


def _keep_aside(
    app: App, connection: Connection, envelope: Envelope, reason: str, rows: list[LedgerRow]
) -> None:
    """Keep rows where `byok failed` shows them; one that comes again is kept once."""
    for row in rows:
        log.error(reason, row_id=row.id, event_id=envelope.id)
        alone = app.envelope(
            UsageRecorded(rows=(row.to_json(),)), account=envelope.subject, signed=True
        )
        item = setaside.SetAside(
            id=content_digest(row.to_json().encode()).hex(),
            at=app.effects.now_ms(),
            queue=USAGE_QUEUE,
            reason=reason,
            sentence=f"{_SENTENCES[reason]} (row {row.id})",
            event_id=envelope.id,
            event_type=envelope.type,
            account_id=None,
        )
        if setaside.put(connection, app.vault, item, alone.to_json().encode()):
            after_commit(connection, app.instruments.set_aside.labels(USAGE_QUEUE, reason).inc)


HANDLERS = Handlers(USAGE_QUEUE, {UsageRecorded: recorded})
