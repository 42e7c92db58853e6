"""Taking over a database that was restored from a backup: nothing in it is acted on unasked."""

from dataclasses import dataclass

from store import analyses, gate, keys, leases, restore
from workers.analyses import ending
from workers.app import App
from workers.keychanges import announce, cause_of

BATCH = 200


class ProcessesRun(RuntimeError):
    """Processes work on the database that is to be taken over."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """How many accounts lost consent, keys are held, and requests ended."""

    at: int
    consents_off: int
    keys_held: int
    requests_ended: int


def take_over(app: App) -> TakenOver:
    """Turn consent off, hold all keys, and end what had not ended.

    To be done before any process starts, as often as one likes: whoever is stopped in it begins
    again. Raises `ProcessesRun`.
    """
    now = app.effects.now_ms()
    with app.database.write() as connection:
        if restore.running_processes(connection, now - int(leases.DEAD_AFTER_SECONDS * 1000)):
            raise ProcessesRun
        action_id, source = app.effects.new_id(), app.settings.operator_source
        restore.note(connection, action_id=action_id, source=source, at=now)
        consents_off = restore.doubt_registers(connection)
    keys_held = requests_ended = 0
    while held := _hold_keys(app):
        keys_held += held
    while ended := _end_requests(app):
        requests_ended += ended
    return TakenOver(now, consents_off, keys_held, requests_ended)


def _hold_keys(app: App) -> int:
    with app.database.write() as connection:
        found = restore.keys_to_hold(connection, BATCH)
        for key in found:
            announce(app, connection, keys.hold(connection, key, cause_of(app, restore.RESTORED)))
    return len(found)


def _end_requests(app: App) -> int:
    now = app.effects.now_ms()
    with app.database.write() as connection:
        found = restore.unended(connection, BATCH)
        for account, request_id in found:
            gate.share(connection, account)
            request = analyses.find(connection, account, request_id, lock=True)
            assert request is not None  # noqa: S101 -- nobody else works here
            if request.state == analyses.RUNNING:
                analyses.give_up_attempt(connection, request, restore.RESTORED, now)
            ending.fail(app, connection, request, restore.RESTORED, retryable=True)
    return len(found)
