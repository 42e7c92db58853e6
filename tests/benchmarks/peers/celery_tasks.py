"""The work on Celery, with threads: `celery -A …peers.celery_tasks:tasks worker -P threads`."""

import os

from celery import Celery
from openai import OpenAI

from store.engine import Database
from tests.benchmarks.peers import plain
from workers.app import App
from workers.settings import Settings

settings = Settings.load()
app = App(settings, role="peer")
database = Database(settings.database_url or "", pool_size=16)
openai = OpenAI(api_key="no-key", max_retries=0, timeout=60.0)
tasks = Celery("peer", broker=os.environ["BENCH_CELERY_BROKER"])
tasks.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=2)


@tasks.task(name="analyse")
def analyse(account: str, request_id: str, sealed: str) -> None:
    """One request, whole."""
    job = plain.Job(account, request_id, sealed)
    payload, mail = plain.opened(app, job)
    with database.write() as connection:
        row = connection.execute(plain.key_of(account)).one()
        encrypted = app.vault.encrypt(connection, account, f"input:{request_id}", payload, 0)
        for statement in plain.claim(job, encrypted, payload, row.key_id):
            connection.execute(statement)
    paying = openai.with_options(api_key=plain.secret(app, account, row))
    answer = paying.chat.completions.create(**plain.asked(mail))
    with database.write() as connection:
        for statement in plain.completion(job, answer):
            connection.execute(statement)
