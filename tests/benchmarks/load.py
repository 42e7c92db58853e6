"""What the contenders are given to do: accounts with keys of their own, and sealed requests."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from events import (
    AccountUpdated,
    AnalysisRequested,
    CreditPeriod,
    KeyAdded,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
    seal_input,
    seal_key,
)
from events.analyses import ANALYSES_QUEUE
from events.broker import NAMESPACE, actor_of, redis_client
from events.envelope import wrap
from store.analyses import TERMINAL
from store.schema import analyses, provider_keys
from tests.benchmarks.stage import OWN_KEY, SOURCE, Stage, wait_until
from tests.road import SIGNING_KEY
from workers.app import App

MAIL = MailInput.model_validate(
    {
        "subject": "Your offer of last week",
        "from": "Ann Example <ann@example.org>",
        "to": "bob@example.org",
        "text": "Hi Bob,\n\nthank you for the offer of last week. Before we sign I have two "
        "questions: does the price hold until the end of the month, and who would be our contact "
        "on your side? Could you let me know by Thursday?\n\nBest wishes,\nAnn\n" * 3,
    }
)
"""Some 800 characters: what the median of the shipped mails has."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, sealed; every one has a text of its own, so that none is answered by reuse."""

    account: str
    request_id: str
    sealed: str


def account_name(number: int) -> str:
    """The name of an account."""
    return f"bench-{number:05}"


def set_up_accounts(app: App, count: int) -> None:
    """Publish `count` accounts, each with consent and a key; wait until all keys are Valid."""
    now = datetime.now(UTC)
    for number in range(count):
        account, key_id = account_name(number), f"key-{number:05}"
        app.publisher.publish(
            AccountUpdated(
                revision=1,
                plan="business",
                ai_consent=True,
                credits=None,
                credit_period=CreditPeriod(
                    start=now - timedelta(days=1), end=now + timedelta(days=30)
                ),
            ),
            account=account,
        )
        sealed = seal_key(
            OWN_KEY.format(number),
            app.settings.sealing_public,
            account=account,
            provider=Provider.OPENAI,
            key_id=key_id,
        )
        app.publisher.publish(
            KeyAdded(revision=2, provider=Provider.OPENAI, key_id=key_id, sealed_key=sealed),
            account=account,
        )
    wait_until(lambda: valid_keys(app) >= count, "all keys are Valid", patience=120)


def valid_keys(app: App) -> int:
    """How many keys are Valid."""
    with app.database.read() as connection:
        return connection.execute(
            select(func.count()).where(provider_keys.c.status == "valid")
        ).scalar_one()


def requests_of(app: App, count: int, accounts: int) -> list[Request]:
    """`count` sealed requests, in turns of `accounts` accounts."""
    made = []
    for number in range(count):
        account, request_id = account_name(number % accounts), uuid.uuid4().hex
        mail = MAIL.model_copy(update={"text": f"{request_id}\n{MAIL.text}"})
        sealed = seal_input(
            mail.to_json(), app.settings.sealing_public, account=account, request_id=request_id
        )
        made.append(Request(account, request_id, sealed))
    return made


def publish_at_once(stage: Stage, requests: Sequence[Request]) -> None:
    """Put the requests on the workers' queue in one go: publishing is not what is measured."""
    client = redis_client(stage.broker_url, max_connections=2)
    pipeline = client.pipeline(transaction=False)
    for request in requests:
        envelope = wrap(
            AnalysisRequested(
                request_id=request.request_id,
                operation=Operation.CLASSIFY,
                provider=ProviderChoice.OPENAI,
                sealed_input=request.sealed,
            ),
            event_id=request.request_id,
            source=SOURCE,
            time=datetime.now(UTC),
            account=request.account,
            sign=SIGNING_KEY.sign,
        )
        message = {
            "queue_name": ANALYSES_QUEUE,
            "actor_name": actor_of(ANALYSES_QUEUE),
            "args": [envelope.to_json()],
            "kwargs": {},
            "options": {"redis_message_id": request.request_id},
            "message_id": request.request_id,
            "message_timestamp": time.time_ns() // 1_000_000,
        }
        pipeline.hset(f"{NAMESPACE}:{ANALYSES_QUEUE}.msgs", request.request_id, json.dumps(message))
        pipeline.rpush(f"{NAMESPACE}:{ANALYSES_QUEUE}", request.request_id)
    pipeline.execute()
    client.close()


def ended(app: App) -> int:
    """How many requests are in a terminal state."""
    with app.database.read() as connection:
        return connection.execute(
            select(func.count()).where(analyses.c.state.in_(TERMINAL))
        ).scalar_one()


def states(app: App) -> dict[str, int]:
    """How many requests are in which state, for which reason."""
    with app.database.read() as connection:
        rows = connection.execute(
            select(analyses.c.state, analyses.c.reason, func.count()).group_by(
                analyses.c.state, analyses.c.reason
            )
        )
        return {f"{state}:{reason}" if reason else state: count for state, reason, count in rows}
