"""The actors of the queue `analyses`."""

from dramatiq import Broker, actor

from events import AnalysisRequested
from events.analyses import ANALYSES_QUEUE
from events.broker import actor_of
from workers.analyses.run import requested, resume
from workers.app import App
from workers.boundary import Handlers, take, take_event

RESUME_ACTOR = "resume_analysis"

HANDLERS = Handlers(ANALYSES_QUEUE, {AnalysisRequested: requested})


def register(broker: Broker, app: App) -> None:
    """Let `broker` call these actors."""

    @actor(broker=broker, queue_name=ANALYSES_QUEUE, actor_name=actor_of(ANALYSES_QUEUE))
    def analyses_event(*arguments: object) -> None:
        take_event(app, HANDLERS, arguments)

    @actor(broker=broker, queue_name=ANALYSES_QUEUE, actor_name=RESUME_ACTOR)
    def resume_analysis(*arguments: object) -> None:
        take(app, ANALYSES_QUEUE, RESUME_ACTOR, arguments, resume)
