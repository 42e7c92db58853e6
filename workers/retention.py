"""How long things are kept: requests with results and attempts, what was set aside, out-events."""

import structlog

from events.stream import STREAM
from store import retention
from workers.app import App

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
"""How often each scheduler looks where nothing was left over the last time."""

BATCH = 200
"""So many rows of a kind are erased in one sweep: a transaction of some 20 ms."""

DAY_MS = 24 * 3600 * 1000

PROCESS_MS = DAY_MS
"""How long the lease of a stopped process is kept, to be looked at."""


def kept_no_longer(app: App) -> int:
    """Erase what has been kept for as long as the settings say.

    What was found is no reason to sweep again at once: a batch each tick is 2,000 rows a second.
    """
    began = app.effects.monotonic()
    if app.erased_at is not None and began < app.erased_at + LOOK_SECONDS:
        return 0
    if not _erase(app):
        app.erased_at = began
    return 0


def _erase(app: App) -> bool:
    """Erase one batch of each kind; whether there may be more."""
    now, kept, since = app.effects.now_ms(), app.settings, kept_since(app)
    erased = {
        kind: erase(app.database, since[kind], BATCH) for kind, erase in retention.ERASE.items()
    }
    full = BATCH in erased.values()
    # Redis names entries by its own clock; with `~` it drops whole nodes of a hundred.
    erased["events"] = app.stream.xtrim(
        STREAM, minid=str(now - kept.keep_events_days * DAY_MS), approximate=True
    )
    for kind, count in erased.items():
        app.instruments.erased.labels(kind).inc(count)
        if not full:
            app.instruments.erased_last.labels(kind).set(now / 1000)
    if any(erased.values()):
        log.info("erased", **erased)
    return full


def kept_since(app: App) -> dict[str, int]:
    """By kind: from when on (Unix ms) what has ended is kept in the store."""
    now, kept = app.effects.now_ms(), app.settings
    requests = now - kept.keep_requests_days * DAY_MS
    return {
        "requests": requests,
        "probes": requests,
        "set_aside": now - kept.keep_set_aside_days * DAY_MS,
        "processes": now - PROCESS_MS,
    }
