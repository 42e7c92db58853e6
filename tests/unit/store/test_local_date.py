"""An account's day is that of its own time zone."""

from datetime import UTC, datetime

import pytest

from store.accounts import local_date


@pytest.mark.parametrize(
    ("timezone", "moment", "day"),
    [
        ("UTC", "2026-01-01T00:00:00", "2026-01-01"),
        ("UTC", "2025-12-31T23:59:59.999", "2025-12-31"),
        ("Asia/Tokyo", "2025-12-31T14:59:59", "2025-12-31"),
        ("Asia/Tokyo", "2025-12-31T15:00:00", "2026-01-01"),
        ("America/Los_Angeles", "2026-01-01T07:59:59", "2025-12-31"),
        ("America/Los_Angeles", "2026-01-01T08:00:00", "2026-01-01"),
        ("Pacific/Kiritimati", "2025-12-31T10:00:00", "2026-01-01"),
        ("Pacific/Pago_Pago", "2026-01-01T10:59:59", "2025-12-31"),
        ("Asia/Kathmandu", "2025-12-31T18:15:00", "2026-01-01"),
        # Summer time: the day ends an hour earlier in UTC.
        ("Europe/Lisbon", "2026-07-01T22:59:59", "2026-07-01"),
        ("Europe/Lisbon", "2026-07-01T23:00:00", "2026-07-02"),
        ("Europe/Lisbon", "2026-01-01T23:00:00", "2026-01-01"),
        # A day that one time zone did not have.
        ("Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00:00", "2011-12-31"),
        ("UTC", "2028-02-29T12:00:00", "2028-02-29"),
    ],
)
def test_the_date_is_the_accounts_own(timezone: str, moment: str, day: str) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert local_date(timezone, int(at.timestamp() * 1000)) == day
