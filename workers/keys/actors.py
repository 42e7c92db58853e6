"""The actors of the queues `keys` and `validations`."""

from dramatiq import Broker, actor

from events.broker import actor_of
from events.keys import KEYS_QUEUE
from workers.app import App
from workers.boundary import take, take_event
from workers.keys.lifecycle import HANDLERS
from workers.keys.validation import VALIDATE_ACTOR, validate
from workers.queues import VALIDATIONS_QUEUE


def register(broker: Broker, app: App) -> None:
    """Let `broker` call the actor for key events."""

    @actor(broker=broker, queue_name=KEYS_QUEUE, actor_name=actor_of(KEYS_QUEUE))
    def keys_event(*arguments: object) -> None:
        take_event(app, HANDLERS, arguments)


def register_validations(broker: Broker, app: App) -> None:
    """Let `broker` call the actor that validates keys; it waits for providers."""

    @actor(broker=broker, queue_name=VALIDATIONS_QUEUE, actor_name=VALIDATE_ACTOR)
    def validate_key(*arguments: object) -> None:
        take(app, VALIDATIONS_QUEUE, VALIDATE_ACTOR, arguments, validate)
