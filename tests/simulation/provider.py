"""The providers of the simulation: they know which secrets are good, and keep the bill."""

import random
import re
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from events import Provider
from tests.simulation.world import World
from workers.providers.port import (
    Answer,
    Failure,
    Limits,
    OutcomeClass,
    Proof,
    Question,
    Tokens,
    Undecided,
)

GOOD = "good"
REVOKED = "revoked"
NO_QUOTA = "no quota"
RESTRICTED = "restricted"
"""A secret whose rights do not reach the list of models: only a real call tells that it works."""

_MARK = re.compile(r"mark-\d+")

LOST_KINDS = ("unsent", "lost", "lost_billed", "timeout", "timeout_billed")
FATES = (
    *LOST_KINDS,
    *("limited", "overloaded", "malformed_billed", "off_schema", "off_vocabulary"),
    *("bad_request", "no_model"),
)


class Foreign(BaseModel):
    """An answer to another question."""


@dataclass(eq=False)
class Billed:
    """One call that was charged."""

    request_id: str
    provider: Provider
    secret: str
    mark: str
    tokens: Tokens
    probe: bool
    told: bool
    """Whether the answer with the tokens was sent back."""


@dataclass
class Pause:
    """What a provider's call waits for."""

    seconds: float

    def __await__(self) -> Generator[float, None, None]:
        yield self.seconds


class Providers:
    """Both of them."""

    def __init__(self, world: World, oracle: Any, platform: dict[Provider, str]) -> None:
        self._world, self._oracle = world, oracle
        self.truth: dict[str, str] = dict.fromkeys(platform.values(), GOOD)
        self.bill: list[Billed] = []
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.out_until: dict[Provider, int] = {}
        self.took: Counter[str] = Counter()
        """For how many milliseconds there were calls about a mail, by its mark."""

    def client(self, process: Any, name: Provider) -> "Client":
        """A process's client of one of them."""
        return Client(self, process, name)

    def charge(self, name: Provider, secret: str, mark: str, *, probe: bool, told: bool) -> Billed:
        """Put a call on the bill."""
        rng = self._world.rng
        # Some cost nearly as much as is reserved for them: a token is a byte at least.
        most = rng.choice((1, 1, 4))
        tokens = Tokens(input=rng.randint(1, 500 * most), output=rng.randint(1, 50 * most))
        billed = Billed(f"req_{len(self.bill)}", name, secret, mark, tokens, probe=probe, told=told)
        self.bill.append(billed)
        return billed


class Client:
    """A `ProviderClient` at which everything happens that can."""

    def __init__(self, providers: Providers, process: Any, name: Provider) -> None:
        self.name = name
        self._all, self._process = providers, process

    async def ask(self, key: SecretStr, question: Question) -> Answer | Failure:
        secret, mark = key.get_secret_value(), _MARK.search(question.user)
        assert mark is not None
        began = self._all._world.now
        try:
            return await self._call(secret, mark[0], question)
        finally:
            self._all.took[mark[0]] += self._all._world.now - began

    async def probe(
        self, key: SecretStr, *, model: str, prove_quota: bool = False
    ) -> Proof | Failure | Undecided:
        secret = key.get_secret_value()
        self._all._oracle.called(self._process, self.name)
        self._all._oracle.probed(self._process, secret)
        fate = self._fate(("unsent", "lost", "timeout", "limited", "overloaded"))
        await Pause(self._latency())
        if fate is not None:
            failed = await self._gone_wrong(fate, secret, "probe")
            assert isinstance(failed, Failure)
            return failed
        truth = self._all.truth[secret]
        if truth == REVOKED:
            return self._no(secret)
        if truth == RESTRICTED or prove_quota:
            return Undecided()
        self._all.accepted.add(secret)
        return Proof(stage=1, request_id=None, model=model)

    async def spend(self, key: SecretStr, *, model: str) -> Proof | Failure:
        secret = key.get_secret_value()
        self._all._oracle.called(self._process, self.name)
        self._all._oracle.spent(self._process, secret)
        fate = self._fate(LOST_KINDS)
        await Pause(self._latency())
        if fate is not None:
            failed = await self._gone_wrong(fate, secret, "probe")
            assert isinstance(failed, Failure)
            return failed
        truth = self._all.truth[secret]
        if truth == REVOKED:
            return self._no(secret)
        if truth == NO_QUOTA:
            return self._broke(secret)
        billed = self._all.charge(self.name, secret, "probe", probe=True, told=True)
        await Pause(self._latency())
        self._all.accepted.add(secret)
        return Proof(stage=2, request_id=billed.request_id, model=model, tokens=billed.tokens)

    async def close(self) -> None:
        """There is nothing to close."""

    async def _call(self, secret: str, mark: str, question: Question) -> Answer | Failure:
        self._all._oracle.called(self._process, self.name)
        self._all._oracle.asked(self._process, secret, mark)
        fate = self._fate(FATES)
        await Pause(self._latency())
        if fate is not None:
            return await self._gone_wrong(fate, secret, mark, question)
        truth = self._all.truth[secret]
        if truth == REVOKED:
            return self._no(secret)
        if truth == NO_QUOTA:
            return self._broke(secret)
        billed = self._all.charge(self.name, secret, mark, probe=False, told=True)
        await Pause(self._latency())
        self._all.accepted.add(secret)
        return Answer(
            value=fitting(question.schema, self._rng),
            model=question.model,
            tokens=billed.tokens,
            request_id=billed.request_id,
            limits=self._limits(),
        )

    @property
    def _rng(self) -> random.Random:
        return self._all._world.rng

    def _latency(self) -> float:
        return self._rng.choice((0.0, 0.2, 0.8, 5.0))

    def _limits(self) -> Limits:
        if not self._all._world.chance(self._process.faults.of("provider") / 4):
            return Limits()
        return Limits(remaining_requests=0, reset_requests=self._rng.choice((0.5, 7.0)))

    def _fate(self, kinds: tuple[str, ...]) -> str | None:
        world, faults = self._all._world, self._process.faults
        if world.chance(faults.of("outage")):
            self._all.out_until[self.name] = world.now + self._rng.choice((5, 60, 600)) * 1000
        if self._all.out_until.get(self.name, 0) > world.now and faults.rate:
            return self._rng.choice(("unsent", "overloaded", "timeout"))
        return self._rng.choice(kinds) if world.chance(faults.of("provider")) else None

    def _no(self, secret: str) -> Failure:
        self._all.refused.add(secret)
        return Failure(kind=OutcomeClass.REJECTED, code="invalid_api_key", status=401)

    def _broke(self, secret: str) -> Failure:
        return Failure(kind=OutcomeClass.NO_QUOTA, code="insufficient_quota", status=429)

    async def _gone_wrong(
        self, fate: str, secret: str, mark: str, question: Question | None = None
    ) -> Failure | Answer:
        probe = question is None
        works = self._all.truth[secret] in (GOOD, RESTRICTED)
        model = None if question is None else question.model
        if fate.endswith("_billed") and works:
            self._all.charge(self.name, secret, mark, probe=probe, told=False)
        if fate.startswith("timeout"):
            await Pause(60.0)
        match fate:
            case "unsent":
                return Failure(
                    kind=OutcomeClass.UNAVAILABLE, code="connect_error", sent=False, model=model
                )
            case "limited":
                return Failure(
                    kind=OutcomeClass.RATE_LIMITED,
                    code="rate_limit_exceeded",
                    status=429,
                    retry_after=self._rng.choice((None, 1.0, 30.0, 900.0)),
                )
            case "overloaded":
                return Failure(kind=OutcomeClass.UNAVAILABLE, code="overloaded", status=503)
            case "malformed_billed":
                return Failure(kind=OutcomeClass.UNAVAILABLE, code="malformed", status=200)
            case "bad_request":
                return Failure(kind=OutcomeClass.BAD_REQUEST, code="invalid_request", status=400)
            case "no_model":
                return Failure(
                    kind=OutcomeClass.MODEL_UNAVAILABLE, code="model_not_found", status=404
                )
            case "off_schema" | "off_vocabulary" if works and question is not None:
                billed = self._all.charge(self.name, secret, mark, probe=False, told=True)
                await Pause(self._latency())
                if fate == "off_vocabulary":
                    return Answer(
                        value=Foreign(),
                        model=question.model,
                        tokens=billed.tokens,
                        request_id=billed.request_id,
                    )
                return Failure(
                    kind=OutcomeClass.BAD_ANSWER,
                    code="off_schema",
                    status=200,
                    request_id=billed.request_id,
                    model=model,
                    tokens=billed.tokens,
                )
            case _:
                return Failure(
                    kind=OutcomeClass.UNAVAILABLE,
                    code="timeout" if fate.startswith("timeout") else "connection_lost",
                    model=model,
                )


def fitting(schema: type[BaseModel], rng: random.Random) -> BaseModel:
    """An answer that fits `schema`."""
    return schema.model_validate(
        {name: _value(part, rng) for name, part in schema.model_json_schema()["properties"].items()}
    )


def _value(part: dict[str, Any], rng: random.Random) -> Any:
    if "enum" in part:
        return rng.choice(part["enum"])
    if "const" in part:
        return part["const"]
    if "anyOf" in part:
        return None
    return {"boolean": False, "number": 0.5, "string": "A short text."}[part["type"]]
