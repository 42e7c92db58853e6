"""Sending keys whose validation is due to the workers, at a bounded pace."""

from dataclasses import dataclass

from events import Provider
from store import pace, pauses, validations
from workers.app import App
from workers.keys.schedule import may_be_put_off, next_look, period_ms
from workers.keys.validation import VALIDATE_ACTOR
from workers.queues import VALIDATIONS_QUEUE

BATCH = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """How many keys were sent to be validated, and how many were put off unasked."""

    sent: int = 0
    put_off: int = 0


def send_due(app: App, provider: Provider) -> Swept:
    """Send keys that are due, as many as the pace of their provider lets through.

    Keys that real traffic proved are put off to the next period, which costs no pace. While the
    provider's breaker is open or the provider is paused none is sent.
    """
    now = app.effects.now_ms()
    rate = app.settings.validations_per_second
    scope = f"validations:{provider.value}"
    with app.database.look() as connection:
        if (
            not validations.any_due(connection, provider, now)
            or not pace.room(connection, scope, now, rate)
            or pauses.is_paused(connection, pauses.PROVIDER, provider)
        ):
            return Swept()
    if provider.value in app.pacing.out():
        # Its breaker is open: it would tell nothing of any key.
        return Swept()
    period = period_ms(app)
    with app.database.write() as connection:
        due = validations.take_due(connection, provider, now, BATCH)
        proved = [key.key_id for key in due if may_be_put_off(key, now, period)]
        asked = [key.key_id for key in due if key.key_id not in set(proved)]
        sent = asked[: pace.take(connection, scope, now, rate, len(asked))]
        validations.put_off(
            connection, {key_id: next_look(key_id, now, period) for key_id in proved}
        )
        validations.note_sent(connection, sent, now)
    for key_id in sent:
        app.publisher.send(VALIDATIONS_QUEUE, VALIDATE_ACTOR, key_id)
    return Swept(len(sent), len(proved))
