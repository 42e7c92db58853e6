"""The actor of the queue `usage`."""

from dramatiq import Broker, actor

from events.broker import actor_of
from events.usage import USAGE_QUEUE
from workers.app import App
from workers.boundary import take_event
from workers.usage.aggregate import HANDLERS


def register(broker: Broker, app: App) -> None:
    """Let `broker` call this queue's actor."""

    @actor(broker=broker, queue_name=USAGE_QUEUE, actor_name=actor_of(USAGE_QUEUE))
    def usage_event(*arguments: object) -> None:
        take_event(app, HANDLERS, arguments)
