"""A numbered load of keys and analyses, and the log of it that nobody under test can write to."""

import heapq
import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from events import (
    AnalysisRequested,
    BrokerAway,
    EventData,
    EventRefused,
    KeyAdded,
    KeyRemoved,
    NotClaimed,
    Operation,
    Provider,
    ProviderChoice,
    Refused,
    seal_input,
)
from tests.chaos.inside.sitecustomize import POISON, TWICE
from tests.road import MAIL, Road

PUBLISHERS = 12
AGAIN_SECONDS = 0.5
CLAIM_SECONDS = 5.0
KEYS_SHARE = 0.1
OWN_KEYS = {
    "own-openai": "sk-proj-sandbox-good-chaos-not-a-real-key",
    "own-anthropic": "sk-ant-api03-sandbox-good-chaos-not-a-real-key",
    "revoked": "sk-proj-sandbox-good-chaos-revoked-not-a-real-key",
}
LATER_KEY = "sk-proj-sandbox-good-chaos-{}-not-a-real-key"
PLATFORM = ("platform", "platform-too")
KEYS = ("keys-1", "keys-2", "keys-3")
"""Accounts whose keys come and go."""
SCARCE = "scarce"
"""An account with few credits, which are soon used up."""
SCARCE_CREDITS = 25


@dataclass(eq=False)
class Numbered:
    """One event of the load, and what its publisher knows of it. Times are Unix seconds."""

    number: int
    account: str
    about: str
    """The request's or the key's id."""
    event_id: str
    data: EventData
    wants_claim: bool
    step: int
    """Which step of the schedule it was first published in."""
    poison: bool = False
    first_at: float | None = None
    attempts: int = 0
    queued_at: float | None = None
    """When the broker confirmed it last."""
    claimed_at: float | None = None
    refused: str | None = None
    not_claimed: int = 0
    """How often its publisher was told to send it again."""

    @property
    def is_acknowledged(self) -> bool:
        """Whether its publisher has what it asked for."""
        return bool(self.claimed_at or (self.queued_at and not self.wants_claim))

    @property
    def is_analysis(self) -> bool:
        return isinstance(self.data, AnalysisRequested)


@dataclass
class Load:
    """Publishes numbered events at a rate, each until it is acknowledged."""

    road: Road
    log_file: Path
    seed: int
    rate: float
    step: int = 0
    numbered: list[Numbered] = field(default_factory=list)
    undocumented: dict[str, int] = field(default_factory=dict)
    """Errors that publishing does not say that it raises."""

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._due: list[tuple[float, int, Numbered]] = []
        self._ordered = itertools.count()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._rests = threading.Event()
        self._threads: list[threading.Thread] = []
        self._log = self.log_file.open("a", buffering=1)
        self._open = 0

    def start(self) -> None:
        """Begin to publish."""
        self._go(self._pace, "pace")
        for number in range(PUBLISHERS):
            self._go(self._publish, f"publisher-{number}")

    def rest(self) -> None:
        """Number no new events; those that are not acknowledged are published on."""
        self._rests.set()

    def is_acknowledged(self) -> bool:
        """Whether every event is."""
        with self._changed:
            return self._open == 0

    def stop(self) -> None:
        """Publish no more."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(30)
        self._log.close()

    def ask(self, account: str, *, claim: bool, text: str = "", poison: bool = False) -> Numbered:
        """Number an analysis and have it published."""
        number = next(self._ordered)
        request_id = f"req-{self.seed}-{number}"
        mail = MAIL.model_copy(update={"text": f"{MAIL.text}\n\n{request_id} {text}"})
        provider = ProviderChoice.ANTHROPIC if number % 3 == 0 else ProviderChoice.OPENAI
        data = AnalysisRequested(
            request_id=request_id,
            operation=Operation.CLASSIFY,
            provider=ProviderChoice.AUTO if account not in PLATFORM else provider,
            sealed_input=seal_input(
                mail.to_json(),
                self.road.settings.sealing_public,
                account=account,
                request_id=request_id,
            ),
        )
        return self._add(number, account, request_id, data, claim=claim, poison=poison)

    def poison(self) -> None:
        """Ask for an analysis that kills every worker that calls with it."""
        self.ask("own-openai", claim=False, text=POISON, poison=True)

    def _go(self, act: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=act, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _pace(self) -> None:
        while not self._stop.wait(1 / self.rate):
            if self._rests.is_set():
                return
            if self._rng.random() < KEYS_SHARE:
                self._give_a_key()
            else:
                account = self._rng.choice((*OWN_KEYS, *PLATFORM, SCARCE))
                self.ask(account, claim=self._rng.random() < 0.5)

    def _give_a_key(self) -> None:
        """Connect a key of an account's own; every second one is taken away again at once."""
        number = next(self._ordered)
        account, key_id = self._rng.choice(KEYS), f"key-{self.seed}-{number}"
        given = KeyAdded(
            revision=2 * number + 1,
            provider=Provider.OPENAI,
            key_id=key_id,
            sealed_key=self.road.sealed_key(
                LATER_KEY.format(number), account, Provider.OPENAI, key_id
            ),
        )
        self._add(number, account, key_id, given, claim=True)
        if self._rng.random() < 0.5:
            gone = KeyRemoved(revision=2 * number + 2, provider=Provider.OPENAI, key_id=key_id)
            self._add(next(self._ordered), account, key_id, gone, claim=True)

    def _add(
        self,
        number: int,
        account: str,
        about: str,
        data: EventData,
        *,
        claim: bool,
        poison: bool = False,
    ) -> Numbered:
        one = Numbered(
            number=number,
            account=account,
            about=about,
            event_id=f"event-{self.seed}-{number}",
            data=data,
            wants_claim=claim,
            step=self.step,
            poison=poison,
        )
        with self._changed:
            self.numbered.append(one)
            self._open += 1
            self._put(one, 0)
        return one

    def _put(self, one: Numbered, pause: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + pause, one.number, one))
        self._changed.notify()

    def _next(self) -> Numbered | None:
        with self._changed:
            while not self._stop.is_set():
                now = time.monotonic()
                if self._due and self._due[0][0] <= now:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(self._due[0][0] - now if self._due else 1)
        return None

    def _publish(self) -> None:
        while (one := self._next()) is not None:
            told = self._publish_once(one)
            with self._changed:
                self._note(one, told)
                if one.is_acknowledged or one.refused is not None:
                    self._open -= 1
                else:
                    self._put(one, AGAIN_SECONDS)

    def _publish_once(self, one: Numbered) -> str:
        """Publish, and say what became of it."""
        one.attempts += 1
        one.first_at = one.first_at or time.time()
        self._note(one, "attempt")
        times = 2 if (self.road.settings.state_dir.parent / TWICE).exists() else 1
        try:
            for _ in range(times):
                self.road.app.publisher.publish(
                    one.data,
                    account=one.account,
                    event_id=one.event_id,
                    wait="claimed" if one.wants_claim else "queued",
                    timeout=CLAIM_SECONDS,
                )
        except NotClaimed:
            one.not_claimed += 1
            return "not claimed"
        except BrokerAway:
            return "broker away"
        except Refused as refused:
            one.refused = refused.reason
            return f"refused: {refused.reason}"
        except EventRefused as refused:
            return f"not taken: {refused.reason}"
        except Exception as error:  # noqa: BLE001 -- each is a finding
            kind = f"{type(error).__module__}.{type(error).__name__} ({error})"
            self.undocumented[kind] = self.undocumented.get(kind, 0) + 1
            return f"undocumented: {kind}"
        one.queued_at = time.time()
        if one.wants_claim:
            one.claimed_at = one.queued_at
        return "claimed" if one.wants_claim else "queued"

    def _note(self, one: Numbered, what: str) -> None:
        line: dict[str, Any] = {"at": round(time.time(), 3), "number": one.number, "what": what}
        if what == "attempt":
            line |= {"about": one.about, "account": one.account, "event": one.event_id}
        self._log.write(json.dumps(line) + "\n")
