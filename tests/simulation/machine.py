"""A process of the system in the simulation: the real App on effects and services that can fail."""

import math
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import dramatiq
import redis
from dramatiq import Message
from dramatiq.brokers.stub import StubBroker
from greenlet import GreenletExit
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from events import Provider, Publisher
from events.analyses import ANALYSES_QUEUE
from events.broker import BrokerAway, actor_of
from store.engine import Database
from tests.simulation.broker import Delivery, Queues
from tests.simulation.valkey import Valkey
from tests.simulation.world import NEVER, Task, World
from tests.unit.workers.standins import SIGNING_KEY
from workers import scheduler, worker
from workers.analyses.actors import HANDLERS
from workers.analyses.intake import take_in
from workers.app import App
from workers.broker.reading import PutBack, read_message, unreadable
from workers.lease import Lease
from workers.outlet import Outlet
from workers.pauses import LOOK_SECONDS, PauseWatch
from workers.relay import open_outlet
from workers.settings import Settings

T = TypeVar("T")


class Faults:
    """How often what goes wrong, in this history; all zero once they have stopped."""

    RATES: ClassVar[dict[str, float]] = {
        "crash_before_commit": 0.02,
        "crash_after_commit": 0.02,
        "crash_elsewhere": 0.01,
        "database_away": 0.02,
        "commit_unknown": 0.02,
        "send_lost": 0.05,
        "send_unconfirmed": 0.05,
        "send_twice": 0.1,
        "fetch_lost": 0.1,
        "deliver_twice": 0.1,
        "reorder": 0.5,
        "ack_lost": 0.1,
        "valkey_away": 0.03,
        "stall": 0.02,
        "freeze": 0.005,
        "broker_empty": 0.001,
        "valkey_empty": 0.001,
        "stop": 0.001,
        "clock_jump": 0.0005,
        "provider": 0.35,
        "outage": 0.01,
    }

    def __init__(self, world: World) -> None:
        # Not all at once: each history has some of them, at rates of its own (swarm testing).
        self.rate: dict[str, float] = {}
        for name, most in self.RATES.items():
            drawn = world.rng.random()
            self.rate[name] = 0.0 if drawn < 0.45 else most * (drawn - 0.4) * 2
        self.database_away_until = 0
        self.broker_away_until = 0

    def of(self, name: str) -> float:
        """The rate of one fault."""
        return self.rate.get(name, 0.0)

    def end(self) -> None:
        """From here on everything works."""
        self.rate.clear()
        self.database_away_until = self.broker_away_until = 0


class SimEffects:
    """Time, identity, chance and waiting, from the world."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._world = process.world

    def now_ms(self) -> int:
        return self._world.wall()

    def monotonic(self) -> float:
        return self._world.now / 1000

    def new_id(self) -> str:
        return self._world.new_id()

    def random_bytes(self, count: int) -> bytes:
        return self._world.rng.randbytes(count)

    def jitter(self) -> float:
        return self._world.rng.random()

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        task = self._world.current
        if task is not None and task.name == "pauses":
            seconds = self._process.app.pauses.rest(seconds)  # type: ignore[attr-defined]
        self._process.sleep(seconds, stop)
        return stop.is_set()


class SimDatabase(Database):
    """A process's door to the one store. Its transactions can fail, and its process die at them."""

    def __init__(self, process: "Process", store: Database) -> None:
        self.url, self.is_sqlite, self.engine = store.url, True, store.engine
        self._writing = threading.Lock()
        self._writes = store._writes
        self._process = process

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._process.boundary("read")
        self._refuse_if_away()
        with self._process.transaction(), super().read() as connection:
            yield connection

    @contextmanager
    def look(self) -> Iterator[Connection]:
        with self.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        process = self._process
        process.boundary("begin")
        self._refuse_if_away()
        with process.transaction():
            with super().write() as connection:
                yield connection
                process.maybe_die("crash_before_commit")
            process.committed()
        process.maybe_die("crash_after_commit")
        if process.world.chance(process.faults.of("commit_unknown")):
            process.note("does not hear of its commit")
            raise OperationalError("COMMIT", {}, ConnectionError("commit unknown"))
        process.boundary("committed")

    def scrub(self) -> None:
        self._process.boundary("scrub")
        super().scrub()

    def close(self) -> None:
        """The store is everybody's."""

    def _refuse_if_away(self) -> None:
        process = self._process
        faults, world = process.faults, process.world
        if world.chance(faults.of("database_away")):
            faults.database_away_until = world.now + int(world.rng.expovariate(1 / 4000))
        if faults.database_away_until > world.now:
            raise OperationalError("BEGIN", {}, ConnectionError("away"))


class SimPauses(PauseWatch):
    """What a process knows of pauses. It looks twice a second, where there is something new."""

    def __init__(self, process: "Process", app: App) -> None:
        super().__init__(lambda: app.database, app.effects)
        self._process = process
        self._thread = SimThread(process, "pauses", self._keep, passive=False)
        self.version = 0

    def look(self) -> None:
        super().look()
        # Nothing has come between: a transaction is one step.
        self.version = self._process.outside.operators.version

    def rest(self, seconds: float) -> float:
        """How long the next look is off: looks that would find nothing new are left out."""
        news = self.version != self._process.outside.operators.version
        return seconds if news else NEVER / 1000

    def wake(self) -> None:
        """There is something new: it is seen when the thread next looks."""
        world, task = self._process.world, self._thread._task
        if task is not None and task.stop is self._stop:
            task.due = min(task.due, world.now + int(world.rng.random() * LOOK_SECONDS * 1000))


class SimOutlet(Outlet):
    """What a process sends itself, on a thread that waits by the world's clock."""

    def __init__(self, process: "Process", opened: Outlet) -> None:
        self.__dict__.update(opened.__dict__)
        self._process = process
        self._thread = SimThread(process, "outlet", self._keep, passive=False)

    def _take(self, seconds: float | None) -> None:
        # The world's clock counts in ms: what is left of one would be no time at all.
        rest = NEVER / 1000 if seconds is None else math.ceil(seconds * 1000) / 1000
        self._process.sleep(rest, until=lambda: not self._given.empty())
        super()._take(0)


class SimThread:
    """What the lease takes for a thread."""

    def __init__(
        self, process: "Process", name: str, run: Callable[[], None], *, passive: bool = True
    ) -> None:
        self._process, self._name, self._run, self._passive = process, name, run, passive
        self._task: Task | None = None

    def start(self) -> None:
        self._task = self._process.spawn(self._name, self._run, passive=self._passive)

    def join(self) -> None:
        if self._task is not None:
            task = self._task
            self._process.sleep(NEVER / 1000, until=lambda: task.done)


class SimRedis:
    """A process's client of Valkey; it may be away, before a command or after it."""

    def __init__(self, process: "Process", server: Valkey) -> None:
        self._process, self._server = process, server

    def _run(self, what: str, act: Callable[[], T]) -> T:
        process = self._process
        process.boundary(what)
        lost = process.world.chance(process.faults.of("valkey_away"))
        if lost and process.world.chance(0.5):
            raise redis.ConnectionError("away")
        result = act()
        if lost:
            raise redis.TimeoutError("no reply")
        return result

    def register_script(self, text: str) -> Callable[..., Any]:
        def run(keys: Any = (), args: Any = ()) -> Any:
            return self._run("script", lambda: self._server.script(text, keys, args))

        return run

    def time(self) -> tuple[int, int]:
        seconds, micros = self._run("TIME", lambda: self._server.command("time"))
        return int(seconds), int(micros)

    def pipeline(self, transaction: bool = True) -> "SimPipeline":
        return SimPipeline(self, self._server)

    def xtrim(self, key: str, **_: Any) -> int:
        """Drop nothing: asked for it roughly, a server may keep what it likes."""
        return self._run("XTRIM", lambda: 0)

    def blpop(self, keys: list[str], timeout: float = 0) -> tuple[bytes, bytes] | None:
        (key,) = keys
        self._process.boundary("BLPOP")
        self._process.sleep(timeout, until=lambda: bool(self._server.command("exists", key)))
        found = self._server.command("lpop", key)
        return None if found is None else (key.encode(), found)

    def close(self) -> None:
        """There is nothing to close."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._run(
            name.upper(), lambda: self._server.command(name, *arguments)
        )


class SimPipeline:
    """Commands that go together, and of which only the first may have arrived."""

    def __init__(self, client: SimRedis, server: Valkey) -> None:
        self._client, self._server = client, server
        self._commands: list[tuple[Any, ...]] = []

    def rpush(self, key: str, value: str) -> None:
        self._commands.append(("rpush", key, value))

    def expire(self, key: str, seconds: int) -> None:
        self._commands.append(("expire", key, seconds))

    def xadd(self, key: str, fields: dict[str, str], **_: Any) -> None:
        self._commands.append(("xadd", key, *(part for pair in fields.items() for part in pair)))

    def execute(self) -> list[Any]:
        return self._client._run(
            "pipeline", lambda: [self._server.command(*one) for one in self._commands]
        )


class SimPublishing:
    """What `events.broker.PublishingBroker` is to a publisher."""

    def __init__(self, process: "Process", queues: Queues) -> None:
        self._process, self._queues = process, queues

    def send(self, message: Message[Any]) -> None:
        process, world = self._process, self._process.world
        process.boundary(f"send {message.actor_name}")
        self._refuse_if_away()
        faults = process.faults
        if world.chance(faults.of("send_lost")):
            raise BrokerAway
        data = message.encode()
        for _ in range(2 if world.chance(faults.of("send_twice")) else 1):
            self._queues.put(message.queue_name, data)
        if world.chance(faults.of("send_unconfirmed")):
            raise BrokerAway
        process.boundary("sent")

    def depth(self, queue: str) -> int:
        self._process.boundary("depth")
        self._refuse_if_away()
        return len(self._queues.waiting[queue])

    def rewrite_file(self) -> None:
        self._process.boundary("rewrite")

    def close(self) -> None:
        """There is nothing to close."""

    def _refuse_if_away(self) -> None:
        if self._process.faults.broker_away_until > self._process.world.now:
            raise BrokerAway


class SimCalls:
    """Runs the provider stand-in's coroutines, whose pauses are the process's."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            self._process.boundary("call")
            while True:
                self._process.sleep(coroutine.send(None))
        except StopIteration as done:
            self._process.boundary("answered")
            result: T = done.value
            return result
        finally:
            coroutine.close()

    def close(self) -> None:
        """There is nothing to close."""


class Process:
    """One operating-system process of the system, or upstream's."""

    def __init__(self, name: str, role: str, outside: Any) -> None:
        self.name, self.role, self.outside = name, role, outside
        self.world: World = outside.world
        self.faults: Faults = outside.faults
        self.alive = True
        self.frozen_until = 0
        self.ready = False
        self.under_way: dict[str, int] = {}
        self.taken: list[Delivery] = []
        self.app = self._open(outside.settings)
        self._actors: dict[str, Any] = {}
        self._reader: dramatiq.Broker | None = None

    def _open(self, settings: Settings) -> App:
        app = App(settings, role=self.role, effects=SimEffects(self))
        database = SimDatabase(self, self.outside.store)
        client = SimRedis(self, self.outside.valkey)
        publisher = Publisher(
            settings.effective_broker_url,
            source="upstream" if self.role == "upstream" else settings.source,
            signing_key=SIGNING_KEY if self.role == "upstream" else settings.signer,
            redis_url=settings.effective_redis_url,
            now=self.outside.moment,
            new_id=self.world.new_id,
        )
        publisher._broker = SimPublishing(self, self.outside.queues)
        publisher._answers = client
        lease = Lease(database, app.effects, self.role)
        lease._thread = SimThread(self, "lease", lease._keep)
        from workers.pacing import Gate  # noqa: PLC0415 -- see below

        app.__dict__.update(
            database=database,
            publisher=publisher,
            instruments=self.outside.instruments,
            calls=SimCalls(self),
            stream=client,
            lease=lease,
            pauses=SimPauses(self, app),
            pacing=Gate(client, app.effects.monotonic),
            providers={name: self.outside.provider.client(self, name) for name in Provider},
        )
        return app

    # -- what its threads meet

    def boundary(self, what: str) -> None:
        """Somewhere between two effects: others may run, it may die, freeze or be slow."""
        self._refuse_if_dead()
        world = self.world
        if world.in_transaction:
            return
        self.maybe_die("crash_elsewhere")
        seconds = 0.0
        if self.role != "upstream":
            if world.chance(self.faults.of("freeze")):
                # SIGSTOP, beyond the lease or not.
                self.frozen_until = world.now + int(world.rng.choice((3, 9, 14, 60)) * 1000)
                self.note(f"is stopped at {what}")
            elif world.chance(self.faults.of("stall")):
                seconds = world.rng.choice((0.1, 0.5, 2, 2, 12, 12, 40, 1000))
                self.note(f"stalls for {seconds} s at {what}")
        world.give_way(seconds=seconds)
        self._refuse_if_dead()

    def sleep(
        self,
        seconds: float,
        stop: threading.Event | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Wait as the world's clock has it."""
        self._refuse_if_dead()
        ticking = self.role == "scheduler" and seconds <= scheduler.TICK_SECONDS
        self.world.give_way(seconds=seconds, stop=stop, until=until, slow=ticking)
        self._refuse_if_dead()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """While a transaction is open nobody else runs: on SQLite each is alone."""
        self.world.in_transaction = True
        try:
            yield
        finally:
            self.world.in_transaction = False

    def committed(self) -> None:
        """A transaction is durable: what is in the store now has to be right."""
        self.outside.operators.committed()
        self.outside.oracle.look(self)

    def maybe_die(self, fault: str) -> None:
        """Die here, if that is drawn."""
        if self.role != "upstream" and self.world.chance(self.faults.of(fault)):
            self.note(f"dies: {fault}")
            self.die()
            raise GreenletExit

    def _refuse_if_dead(self) -> None:
        if not self.alive:
            raise GreenletExit

    def note(self, text: str) -> None:
        """Write what happens to it into the record."""
        task = self.world.current
        self.world.note(f"{self.name}/{task.name if task else '-'} {text}")

    # -- its life

    def spawn(self, name: str, run: Callable[[], None], *, passive: bool = False) -> Task:
        """Start a thread of it."""
        return self.world.spawn(self, name, run, passive=passive)

    def start(self) -> None:
        """Run its role."""
        self.note("starts")
        if self.role == "scheduler":
            task = self.spawn("scheduler", self._schedule)
            task.passive = False
        elif self.role == "worker":
            self._register()
            self.spawn("main", self._work)

    def die(self) -> None:
        """As by SIGKILL: nothing that is under way is finished or tidied up."""
        self.alive = self.ready = False
        self.outside.left(self)
        for task in [task for task in self.world.tasks if task.owner is self]:
            self.world.kill(task)

    def thread_died(self, task: Task, error: Exception) -> None:
        """A thread ended by an exception. What cannot take its lease is started again."""
        self.note(f"{task.name} ended by {type(error).__name__}")
        if task.name in ("main", "scheduler") and isinstance(error, OperationalError):
            self.die()
            return
        self.world.failures.append(f"{self.name}/{task.name} ended by {error!r}")

    def _schedule(self) -> None:
        scheduler.run(self.app)
        self._gone()

    def _work(self) -> None:
        self.app.lease.start()
        self.app.pauses.start()
        self.app.outlet = SimOutlet(self, open_outlet(self.app))
        self.app.outlet.start()
        self.ready = True
        self.sleep(NEVER / 1000, self.app.stopping)
        self.ready = False
        self.sleep(NEVER / 1000, until=lambda: not any(self.under_way.values()))
        self.app.outlet.stop()
        self.app.pauses.stop()
        self.app.lease.release()
        self._gone()

    def _gone(self) -> None:
        self.note("has stopped")
        self.alive = False
        self.outside.left(self)

    # -- a worker's messages

    def _register(self) -> None:
        broker = StubBroker(middleware=[])
        self.room: dict[str, tuple[str, int]] = {}
        for group in worker.groups(self.app):
            before = set(broker.queues)
            for register in group.registers:
                register(broker, self.app)
            for queue in sorted(set(broker.queues) - before):
                self.room[queue] = (group.name, group.threads)
                worker._register_unreadable(broker, self.app, queue)
        self._reader = broker

    def has_room(self, queue: str) -> bool:
        """Whether a thread is free for a message of `queue`."""
        group, threads = self.room[queue]
        if queue in self.app.pauses.known.queues:
            return False
        return self.ready and self.under_way.get(group, 0) < threads

    def take(self, queue: str, data: bytes) -> None:
        """Have a thread act on a message."""
        group, _ = self.room[queue]
        delivery = Delivery(queue, data)
        self.taken.append(delivery)
        if self.world.chance(self.faults.of("fetch_lost")):
            # On its way here; it comes again when this process has taken a new identity.
            self.outside.redeliver(self, delivery)
            return
        self.under_way[group] = self.under_way.get(group, 0) + 1
        self.spawn(queue, lambda: self._act(group, delivery))

    def _goes_with_others(self, message: Message[Any]) -> bool:
        ours = message.actor_name == actor_of(ANALYSES_QUEUE)
        return ours and self.world.chance(0.2)

    def _act(self, group: str, delivery: Delivery) -> None:
        try:
            broker = self._reader
            assert broker is not None
            message = read_message(broker, delivery.queue, delivery.data) or unreadable(
                delivery.queue, delivery.data
            )
            try:
                if self._goes_with_others(message):
                    # As what was deferred of an account that has enough under way.
                    take_in(self.app, HANDLERS, [message.args])
                else:
                    broker.actors[message.actor_name].fn(*message.args)
            except Exception as error:
                if not isinstance(error, PutBack):
                    raise
                self.outside.redeliver(self, delivery)
            else:
                self.boundary("ack")
                if self.world.chance(self.faults.of("ack_lost")):
                    self.outside.redeliver(self, delivery)
                else:
                    self.taken.remove(delivery)
        finally:
            if self.alive:
                self.under_way[group] -= 1
