"""What single steps cost: publishing an event, opening the vault. Memory."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from events import AnalysisRequested, Operation, ProviderChoice
from events.publisher import Publisher
from store import keys
from tests.benchmarks import load, throughput
from tests.benchmarks.rounds import Rounds
from tests.benchmarks.stage import SOURCE, Stage, a_process, a_stage
from tests.road import SIGNING_KEY
from workers.app import App

ACCOUNTS = 10
EVENTS = 1_000
OPENINGS = 3_000
REPEATS = 3


def steps(kind: str) -> Mapping[str, float]:
    """One round of the single steps."""
    with a_stage(kind) as stage, ExitStack() as stack:
        app = App(stage.settings(threads=4), role="bench")
        stack.callback(app.close)
        with ExitStack() as roles:
            for role in ("worker", "scheduler"):
                environment = stage.environment(threads=4)
                roles.enter_context(a_process(["-m", "workers.cli", role], env=environment))
            load.set_up_accounts(app, ACCOUNTS)
        return {
            "publish, ms/event": 1000 * _publish(app, stage),
            "vault opens/s": 1 / _open(app),
        }


def _publish(app: App, stage: Stage) -> float:
    """Seconds of wall time that one event takes its publisher, confirmed, with nobody else on."""
    publisher = Publisher(stage.broker_url, source=SOURCE, signing_key=SIGNING_KEY)
    requests = load.requests_of(app, EVENTS, ACCOUNTS)
    began = time.monotonic()
    for request in requests:
        data = AnalysisRequested(
            request_id=request.request_id,
            operation=Operation.CLASSIFY,
            provider=ProviderChoice.OPENAI,
            sealed_input=request.sealed,
        )
        publisher.publish(data, account=request.account)
    return (time.monotonic() - began) / EVENTS


def _open(app: App) -> float:
    """Seconds that one key takes out of the vault, its row in hand."""
    account = load.account_name(0)
    with app.database.read() as connection:
        key = next(iter(keys.active(connection, account).values()))
        stored = keys.stored_key(connection, key.key_id)
    assert stored is not None
    began = time.monotonic()
    for _ in range(OPENINGS):
        app.vault.open_key(stored, account=account, provider=key.provider, key_id=key.key_id)
    return (time.monotonic() - began) / OPENINGS


def memory(kind: str, in_flight: int) -> Mapping[str, float]:
    """The worker's peak at a number of calls in flight."""
    measured = throughput.our_road(kind, throughput.Size(1, in_flight, 4 * in_flight))
    name = "peak RSS MB/process"
    return {name: measured[name]}


def measure(kind: str, *, rounds: int) -> list[Rounds]:
    """The single steps, and memory at 64, 256 and 1,024 in flight."""
    single = Rounds(f"Single steps on {kind}")
    single.run({"this road": lambda: steps(kind)}, rounds=rounds)
    sizes: dict[str, Callable[[], Mapping[str, float]]] = {
        f"{in_flight} in flight": (lambda n=in_flight: memory(kind, n))
        for in_flight in (64, 256, 1_024)
    }
    held = Rounds(f"Memory on {kind}")
    held.run(sizes, rounds=1)
    return [single, held]
