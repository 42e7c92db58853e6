"""The work on taskiq, on its event loop: `taskiq worker …peers.taskiq_tasks:broker`."""

import os

from openai import AsyncOpenAI, DefaultAioHttpClient
from sqlalchemy.ext.asyncio import create_async_engine
from taskiq_redis import RedisStreamBroker

from tests.benchmarks.peers import plain
from workers.app import App
from workers.settings import Settings

settings = Settings.load()
app = App(settings, role="peer")
engine = create_async_engine(settings.database_url or "", pool_size=16, max_overflow=0)
openai = AsyncOpenAI(
    api_key="no-key", max_retries=0, http_client=DefaultAioHttpClient(timeout=60.0)
)
broker = RedisStreamBroker(os.environ["BENCH_TASKIQ_BROKER"], consumer_id="0")


@broker.task(task_name="analyse")
async def analyse(account: str, request_id: str, sealed: str) -> None:
    """One request, whole."""
    job = plain.Job(account, request_id, sealed)
    payload, mail = plain.opened(app, job)
    async with engine.begin() as connection:
        row = (await connection.execute(plain.key_of(account))).one()
        encrypted = await connection.run_sync(
            lambda plainly: app.vault.encrypt(plainly, account, f"input:{request_id}", payload, 0)
        )
        for statement in plain.claim(job, encrypted, payload, row.key_id):
            await connection.execute(statement)
    paying = openai.with_options(api_key=plain.secret(app, account, row))
    answer = await paying.chat.completions.create(**plain.asked(mail))
    async with engine.begin() as connection:
        for statement in plain.completion(job, answer):
            await connection.execute(statement)
