"""The aggregator: a batch of usage rows becomes ledger rows, rollups and counts, in one commit."""

import structlog

from events import Envelope, EventRefused, UsageRecorded
from events.usage import USAGE_QUEUE
from store import ledger
from workers.app import App
from workers.boundary import Handlers

log = structlog.get_logger(__name__)


def recorded(app: App, envelope: Envelope, data: UsageRecorded) -> None:
    """Write the batch. Raises `EventRefused` where a row is not one of this version's.

    A row that is on the ledger already with other content is left as it is there and reported.
    """
    try:
        rows = [ledger.LedgerRow.from_fields(fields) for fields in data.rows]
    except TypeError:
        raise EventRefused(
            "invalid_event",
            "A usage row has other fields than this version's ledger: upgrade the workers.",
        ) from None
    with app.database.write() as connection:
        outcome = ledger.record(connection, rows)
    oldest = min((row.at for row in rows), default=None)
    if outcome.new and oldest is not None:
        app.instruments.usage_lag.observe((app.effects.now_ms() - oldest) / 1000)
    for name, ids in (
        ("new", outcome.new),
        ("repeated", outcome.repeated),
        ("conflicting", outcome.conflicting),
    ):
        app.instruments.usage_rows.labels(name).inc(len(ids))
    for row_id in outcome.conflicting:
        log.error("usage_row_conflicts", row_id=row_id, event_id=envelope.id)


HANDLERS = Handlers(USAGE_QUEUE, {UsageRecorded: recorded})
