"""One account's flood in the simulation: what it may do to others' delay (invariant 9).

Nothing goes wrong here, so that what an account waits for is its own call, and what is beside it
can be told. The simulation's threads take no time of the world but in calls: a request that waits
for longer waited for a place, a permit or a turn that another account's calls had.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from events import AccountUpdated, CreditPeriod, EventData, KeyAdded, KeyRemoved, Provider, seal_key
from tests.simulation import provider as providers
from tests.simulation.upstream import PREFIX, Account, Upstream
from tests.simulation.world import START

SETTLED_MS = 120_000
"""By then every account is known and every key has its verdict."""

MOST_BESIDE_MS = 1_000
"""A request of another account waits at most so long beside its own call."""

AT_ONCE_MS = 500
"""A consent or a removal takes less."""

APART_MS = 11_000
"""A quiet account asks again after the longest call: it does not wait for itself."""

FLOODING = "ann"


@dataclass(frozen=True)
class Change:
    """Something of an account that has to be in the store soon."""

    at: int
    what: str
    sql: str
    values: tuple[Any, ...]


class Flood(Upstream):
    """An account asks for far more than its share; two others ask and change things meanwhile."""

    def __init__(self, outside: Any, process: Any) -> None:
        super().__init__(outside, process)
        self._accounts = [Account(name) for name in (FLOODING, "ben", "cat")]
        self._open: dict[tuple[str, str], tuple[int, str]] = {}
        self._changes: list[Change] = []
        self.beside: list[int] = []
        """For how long each request of the others waited beside its own call, in ms."""

    def begin(self) -> None:
        """Schedule the whole script."""
        rng = self._world.rng
        for account in self._accounts:
            self._at(START, account, self._state(account))
            for provider in Provider:
                if rng.random() < 0.4:
                    self._at(START, account, self._good_key(account, provider))
        flooding, *others = self._accounts
        at = START + SETTLED_MS
        for _ in range(rng.randint(20, 60)):
            at += int(rng.choice((0, 0, 0, 50, 300)))
            self._at(at, flooding, self._new(flooding, at))
        for account in others:
            at = START + SETTLED_MS + rng.randint(0, 2_000)
            for _ in range(rng.randint(1, 4)):
                self._at(at, account, self._new(account, at))
                at += APART_MS + rng.randint(0, 2_000)
        for account in self._accounts:
            at = START + SETTLED_MS + rng.randint(0, 20_000)
            self._at(at, account, self._change(account, at))
        self.last_at = at

    def look(self, oracle: Any) -> None:
        """Something was committed: see what has ended, and whether it did so soon enough."""
        now = self._world.now
        for name in [name for name in self._open if oracle.has_ended(*name)]:
            at, mark = self._open.pop(name)
            beside = now - at - self._outside.provider.took[mark]
            self.beside.append(beside)
            if beside > MOST_BESIDE_MS:
                oracle.broken(f"9: {name} waited {beside} ms beside its own call")
        for change in list(self._changes):
            if change.at <= now and oracle.rows(change.sql, *change.values):
                self._changes.remove(change)
                if now - change.at > AT_ONCE_MS:
                    oracle.broken(f"9: {change.what} took {now - change.at} ms")

    def _new(self, account: Account, at: int) -> EventData:
        self._count += 1
        request_id, mark = f"req-{self._count}", f"mark-{self._count}"
        if account.name != FLOODING:
            self._open[account.name, request_id] = at, mark
        return self._about_mail(account, request_id, mark)

    def _change(self, account: Account, at: int) -> EventData:
        """A consent is withdrawn, or a key is removed."""
        if account.keys and self._world.rng.random() < 0.5:
            provider, key_id = account.keys.popitem()
            account.revision += 1
            gone = "SELECT 1 FROM provider_keys WHERE key_id = ? AND removed_at IS NOT NULL"
            self._changes.append(Change(at, f"the removal of {key_id}", gone, (key_id,)))
            return KeyRemoved(revision=account.revision, provider=provider, key_id=key_id)
        told = self._state(account, consent=False)
        there = "SELECT 1 FROM accounts WHERE account_id = ? AND revision >= ?"
        what = f"the withdrawn consent of {account.name}"
        self._changes.append(Change(at, what, there, (account.name, account.revision)))
        return told

    def _state(self, account: Account, *, consent: bool = True) -> EventData:
        account.revision += 1
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return AccountUpdated(
            revision=account.revision,
            plan="business",
            ai_consent=consent,
            credits=None,
            credit_period=CreditPeriod(start=start, end=start + timedelta(days=30)),
        )

    def _good_key(self, account: Account, provider: Provider) -> EventData:
        account.revision += 1
        self._count += 1
        key_id = f"key-{self._count}"
        secret = f"{PREFIX[provider]}{self._count:04}-not-a-real-key"
        self._outside.provider.truth[secret] = providers.GOOD
        self._outside.oracle.secrets[key_id, account.revision] = secret
        account.keys[provider] = key_id
        return KeyAdded(
            revision=account.revision,
            provider=provider,
            key_id=key_id,
            sealed_key=seal_key(
                secret,
                self._outside.settings.sealing_public,
                account=account.name,
                provider=provider,
                key_id=key_id,
            ),
            allow_platform_fallback=False,
        )
