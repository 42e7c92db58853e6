"""What must hold once a recorded system has come to its end."""

import json
from collections import Counter

from sqlalchemy import RowMapping, select

from store import analyses as requests
from store import audit, ledger, setaside
from store.schema import analyses
from tests.road import Road
from tests.upgrade.ending import RUN_ON
from tests.upgrade.recording import Recording

UNBOOKED = "completed-unbooked"
"""Two accounts' requests that had ended and were on no ledger."""


def rows_of(road: Road) -> dict[str, RowMapping]:
    """All requests that are no two accounts', by id."""
    with road.app.database.read() as connection:
        rows = connection.execute(select(analyses)).mappings().all()
    return {row["request_id"]: row for row in rows if row["request_id"] != UNBOOKED}


def check_books(road: Road, recording: Recording) -> None:
    """Each billed call is on the ledger once, each completed request counted once."""
    with road.app.database.snapshot() as connection:
        assert audit.audit(connection).findings == []
        # Those of which nobody knows whether they were paid are listed.
        assert {one.request_id for one in requests.unknown_attempts(connection)} == {
            "running-own-key",
            "running-platform",
        }
        rows = ledger.rows_of(connection)
    booked = {row.id: row.cost_nano_usd for row in rows}
    for row in recording.tables["ledger"]:
        assert booked[row["id"]] == row["cost_nano_usd"]
    completes = Counter(row.request_id for row in rows if row.completes)
    assert completes.pop(UNBOOKED) == 2
    completed = {name for name, row in rows_of(road).items() if row["state"] == requests.COMPLETED}
    assert completes == dict.fromkeys(completed, 1)


def check_what_had_ended(road: Road, recording: Recording) -> None:
    """What had ended is as it was."""
    now = rows_of(road)
    for row in recording.tables["analyses"]:
        if row["state"] in requests.TERMINAL and row["request_id"] != UNBOOKED:
            kept = now[row["request_id"]]
            for name, value in row.items():
                is_json = name in ("result", "usage") and value is not None
                assert kept[name] == (json.loads(value) if is_json else value), name


def check_what_was_told(road: Road) -> None:
    """What the outbox held has gone out, and what was set aside can still be read."""
    told = [event["data"]["request_id"] for event in road.out_events("analysis.completed")]
    assert {UNBOOKED, *RUN_ON} <= set(told)
    with road.app.database.read() as connection:
        (item,) = setaside.newest(connection)
        payload = setaside.payload(connection, road.app.vault, item.id)
    assert json.loads(payload) == {"type": "byok.unheard.of.v1"}
