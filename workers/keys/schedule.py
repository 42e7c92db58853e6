"""When a key is validated next: at its own moment of the period, which its id decides.

A moment that is counted from the last validation bunches keys up for good: what is connected,
marked or found late together comes back together. A phase does not: whatever happened, a million
keys come back spread evenly over the period.
"""

import hashlib

from events import KeyStatus
from store.validations import DueKey
from workers.app import App

NO_QUOTA = "no_quota"


def period_ms(app: App) -> int:
    """How long a verdict counts, in ms."""
    return max(1, int(app.settings.revalidate_hours * 3_600_000))


def phase_ms(key_id: str, period_ms: int) -> int:
    """The key's moment within each period, counted from the Unix epoch, in ms."""
    digest = hashlib.sha256(f"byok-validation:{key_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % period_ms


def next_look(key_id: str, now: int, period_ms: int, periods: int = 1) -> int:
    """The key's moment that is nearest to `periods` periods from `now` (Unix ms).

    So a key is looked at again after half a period to one and a half, the first time, and after
    whole periods from then on.
    """
    earliest = now + periods * period_ms - period_ms // 2
    return earliest + (phase_ms(key_id, period_ms) - earliest) % period_ms


def is_scheduled(key_id: str, at: int, period_ms: int) -> bool:
    """Whether a validation at `at` is the schedule's, and none that somebody asked for."""
    return (at - phase_ms(key_id, period_ms)) % period_ms == 0


def may_be_put_off(key: DueKey, now: int, period_ms: int) -> bool:
    """Whether real traffic proved the key within the last period, so that no probe is needed.

    Only a scheduled look at a key that is fine is put off: not one that was asked for, nor one at
    a key that is in doubt or out of quota.
    """
    return (
        key.status == KeyStatus.VALID
        and key.reason != NO_QUOTA
        and key.suspect_at is None
        and key.last_ok_at is not None
        and key.last_ok_at > max(key.tested_at or 0, now - period_ms)
        and is_scheduled(key.key_id, key.validate_at, period_ms)
    )
