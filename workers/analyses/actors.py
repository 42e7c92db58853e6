"""The actors of the queue `analyses`."""

import json
from typing import Any

from dramatiq import Broker, Message, actor

from events import AnalysisRequested
from events.analyses import ANALYSES_QUEUE
from events.broker import actor_of
from workers.analyses.intake import take_in
from workers.analyses.run import requested, resume
from workers.analyses.turns import RESUME_ACTOR
from workers.app import App
from workers.boundary import Handlers, Stopping, take, take_event
from workers.broker import RedisWorkerBroker
from workers.broker.deferral import Deferral

HANDLERS = Handlers(ANALYSES_QUEUE, {AnalysisRequested: requested})


TAKE_IN_ACTOR = "take_in_analyses"
TAKE_IN_BATCH = 100
"""So many requests are taken in by one transaction: it lasts some 20 ms, which others wait for."""

AFTER_OTHERS = 1
"""A priority after that of all other messages, which is 0."""


def register(broker: Broker, app: App) -> None:
    """Let `broker` call these actors."""
    if isinstance(broker, RedisWorkerBroker):
        _defer(broker, app)

    @actor(broker=broker, queue_name=ANALYSES_QUEUE, actor_name=actor_of(ANALYSES_QUEUE))
    def analyses_event(*arguments: object) -> None:
        with app.lanes.working():
            take_event(app, HANDLERS, arguments)

    @actor(broker=broker, queue_name=ANALYSES_QUEUE, actor_name=RESUME_ACTOR)
    def resume_analysis(*arguments: object) -> None:
        with app.lanes.working():
            take(app, ANALYSES_QUEUE, RESUME_ACTOR, arguments, resume)


def _defer(broker: RedisWorkerBroker, app: App) -> None:
    """Have requests of an account that has its share of the threads taken in together."""
    deferral = Deferral(TAKE_IN_ACTOR, _account_of, app.shares.is_crowded)
    broker.deferrals[ANALYSES_QUEUE] = deferral

    @actor(
        broker=broker,
        queue_name=ANALYSES_QUEUE,
        actor_name=TAKE_IN_ACTOR,
        priority=AFTER_OTHERS,
    )
    def take_in_analyses() -> None:
        if ANALYSES_QUEUE in app.pauses.known.queues:
            # The consumer puts back what was deferred.
            deferral.end()
            return
        messages = deferral.take(TAKE_IN_BATCH)
        wait = app.instruments.queue_wait.labels(ANALYSES_QUEUE)
        for message in messages:
            wait.observe(max(0, app.effects.now_ms() - message.message_timestamp) / 1000)
        try:
            with app.lanes.working():
                take_in(app, HANDLERS, [message.args for message in messages])
            broker.acknowledge(ANALYSES_QUEUE, messages)
        except Stopping:
            deferral.put_back(messages)
            raise
        finally:
            deferral.end()


def _account_of(message: Message[Any]) -> str | None:
    """Whose request a message brings; `None` where that does not matter or cannot be told."""
    if message.actor_name != actor_of(ANALYSES_QUEUE) or len(message.args) != 1:
        return None
    try:
        account = json.loads(message.args[0])["subject"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return account if isinstance(account, str) else None
