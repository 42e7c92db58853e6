"""Keeping the ledger: its months are made ahead, and taken off when they are old enough."""

import structlog

from store import months, partitions
from workers.app import App

log = structlog.get_logger(__name__)

LOOK_SECONDS = 3_600.0
"""How often each scheduler looks. Months are made three ahead: a day without one does no harm."""


def ledger_months(app: App) -> int:
    """Make the partitions of the months to come, and drop what BYOK_LEDGER_MONTHS does not keep.

    What was added up of a month that goes stays: rollups, spending, per-key counts.
    """
    began = app.effects.monotonic()
    if app.ledger_kept_at is not None and began < app.ledger_kept_at + LOOK_SECONDS:
        return 0
    now = app.effects.now_ms()
    with app.database.write() as connection:
        made = partitions.prepare(connection, now)
    for month in made:
        log.info("ledger_month_made", month=months.name(month))
    if app.settings.ledger_months:
        first = months.plus(months.of_ms(now), -app.settings.ledger_months)
        while _drop(app, first, now):
            continue
    app.ledger_kept_at = began
    app.instruments.erased_last.labels("ledger_months").set(now / 1000)
    return 0


def _drop(app: App, first: int, now: int) -> bool:
    with app.database.write() as connection:
        dropped = partitions.drop_before(connection, first, now)
    if dropped is not None:
        app.instruments.erased.labels("ledger_months").inc()
        log.info("ledger_month_dropped", month=months.name(dropped))
    return dropped is not None
