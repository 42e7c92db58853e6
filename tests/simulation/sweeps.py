"""Leaving out sweeps that would find nothing: they would change nothing, and take half the time.

What a sweep looks for is said here in a statement of our own, on the safe side. A sweep that is not
named runs always.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from workers import scheduler
from workers.app import App

_LOOKED_FOR = {
    "relay_usage": "SELECT 1 FROM outbox WHERE kind = 'usage' AND due_at <= :now",
    "relay_events": "SELECT 1 FROM outbox WHERE kind = 'event' AND due_at <= :now",
    "rewrite_queue_file": "SELECT 1 FROM outbox WHERE kind = 'rewrite' AND due_at <= :now",
    "due_analyses": "SELECT 1 FROM analyses WHERE due_at <= :now",
    "due_validations": "SELECT 1 FROM provider_keys WHERE validate_at <= :now",
    "due_waiting_events": "SELECT 1 FROM waiting_events WHERE due_at <= :now",
    "dead_processes": "SELECT 1 FROM processes"
    " WHERE stopped_at IS NULL AND heartbeat_at < :now - 10000",
    "orphaned_requests": "SELECT 1 FROM analyses WHERE state = 'running'",
    "lost_attempts": "SELECT 1 FROM attempts WHERE state = 'started'",
    "paused_requests": "SELECT 1 FROM pauses WHERE resumed_at IS NOT NULL",
    # Nothing else gets old enough.
    "kept_no_longer": "SELECT 1 FROM processes WHERE stopped_at < :now - 86400000",
    "past_cooldowns": "SELECT 1 FROM cooldowns WHERE until_at <= :now",
}


@contextmanager
def only_where_something_is_due(raw: Any, wall: Callable[[], int]) -> Iterator[None]:
    """While this lasts, the schedulers leave out sweeps that would find nothing."""

    def guarded(sweep: scheduler.Sweep) -> scheduler.Sweep:
        looked_for = _LOOKED_FOR.get(sweep.__name__)
        if looked_for is None:
            return sweep

        @wraps(sweep)
        def run(app: App) -> int:
            found = raw.execute(looked_for + " LIMIT 1", {"now": wall()}).fetchone()
            return sweep(app) if found else 0

        return run

    with patch.object(scheduler, "SWEEPS", tuple(guarded(sweep) for sweep in scheduler.SWEEPS)):
        yield
