"""Upstream in the simulation: what the system of record publishes, until each is claimed."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from events import (
    AccountDeleted,
    AccountUpdated,
    AnalysisRequested,
    BrokerAway,
    CreditPeriod,
    EventData,
    EventRefused,
    KeyAdded,
    KeyRemoved,
    KeyReplaced,
    KeyTested,
    KeyUpdated,
    MailInput,
    Operation,
    Provider,
    ProviderChoice,
    claims,
    seal_input,
    seal_key,
)
from tests.simulation import provider as providers
from tests.simulation.world import START, World

BUDGETS = (None, None, "0", "0.01", "0.02", "0.05")
"""In dollars. A call reserves a few tenths of a cent."""

PREFIX = {Provider.OPENAI: "sk-proj-fake-", Provider.ANTHROPIC: "sk-ant-api03-fake-"}

AGAIN_SECONDS = 20.0
"""Upstream waits this long for a claim, then publishes again under the same event id."""


@dataclass
class Account:
    """An account as the system of record has it."""

    name: str
    revision: int = 0
    keys: dict[Provider, str] = field(default_factory=dict)
    events: list[tuple[int, str, EventData]] = field(default_factory=list)
    deleted: bool = False


class Upstream:
    """Draws a script from the seed and publishes it."""

    def __init__(self, outside: Any, process: Any) -> None:
        self._outside, self._process = outside, process
        self._world: World = outside.world
        self._accounts = [Account(name) for name in ("ann", "ben")]
        self.requested: dict[str, tuple[str, str]] = {}
        self.refused: dict[str, str] = {}
        self.last_at = 0
        self._count = 0
        self._given: list[str] = []
        self._asked: list[AnalysisRequested] = []

    def begin(self) -> None:
        """Schedule the whole script."""
        rng = self._world.rng
        at = START
        for account in self._accounts:
            if rng.random() < 0.9:
                self._at(at, account, self._updated(account, fresh=True))
        for _ in range(rng.randint(6, 24)):
            at += int(rng.choice((0, 0, 0, 200, 2000, 10000, 60000)))
            account = rng.choice(self._accounts)
            for event in self._next(account):
                self._at(at, account, event)
        for _ in range(rng.randint(0, 3)):
            self._outside.at(START + rng.randint(0, max(1, at - START)), self._change_truth)
        if rng.random() < 0.2:
            self._outside.at(START + rng.randint(0, max(1, at - START)), self._put_rubbish)
        self.last_at = at

    def _next(self, account: Account) -> list[EventData]:
        rng = self._world.rng
        drawn = rng.random()
        if drawn < 0.52:
            return [self._request(account)]
        if drawn < 0.66:
            return [self._updated(account)]
        if drawn < 0.82:
            return [self._key(account)]
        if drawn < 0.96:
            return self._about_key(account)
        return [self._deleted(account)]

    def _updated(self, account: Account, *, fresh: bool = False) -> EventData:
        rng = self._world.rng
        account.revision += 1
        account.deleted = False
        start = datetime(2026, 1, 1 if rng.random() < 0.7 else 2, tzinfo=UTC)
        return AccountUpdated(
            revision=account.revision,
            plan=rng.choice(("business", "business", "business", "starter")),
            ai_consent=rng.random() < (0.9 if fresh else 0.65),
            credits=rng.choice((0, 1, 2, 5, None)),
            credit_period=CreditPeriod(start=start, end=start + timedelta(days=30)),
            timezone=rng.choice(("UTC", "Pacific/Auckland")),
            budget_usd=self._budget(),
        )

    def _key(self, account: Account) -> EventData:
        rng = self._world.rng
        account.revision += 1
        provider = rng.choice(list(Provider))
        self._count += 1
        key_id = f"key-{self._count}"
        if provider in account.keys and rng.random() < 0.15:
            # The same id again with another secret: upstream's mistake, or a restored backup.
            key_id = account.keys[provider]
        secret = f"{PREFIX[provider]}{self._count:04}-not-a-real-key"
        if rng.random() < 0.1 and self._given:
            # The same secret under another id.
            secret = rng.choice(
                [s for s in self._given if s.startswith(PREFIX[provider])] or [secret]
            )
        if secret not in self._outside.provider.truth:
            self._outside.provider.truth[secret] = rng.choice(
                (providers.GOOD,) * 5
                + (providers.REVOKED, providers.NO_QUOTA, providers.RESTRICTED)
            )
            self._given.append(secret)
        kind = KeyReplaced if provider in account.keys else KeyAdded
        account.keys[provider] = key_id
        self._outside.oracle.secrets[key_id, account.revision] = secret
        return kind(
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
            allow_platform_fallback=rng.random() < 0.4,
            budget_usd=self._budget(),
        )

    def _budget(self) -> str | None:
        return self._world.rng.choice(BUDGETS) if self._outside.budgeted else None

    def _about_key(self, account: Account) -> list[EventData]:
        rng = self._world.rng
        if not account.keys:
            return [self._key(account)]
        provider = rng.choice(sorted(account.keys))
        key_id = account.keys[provider]
        drawn = rng.random()
        if drawn < 0.3:
            return [KeyTested(key_id=key_id)]
        account.revision += 1
        if drawn < 0.5:
            return [
                KeyUpdated(
                    revision=account.revision,
                    key_id=key_id,
                    allow_platform_fallback=rng.random() < 0.5,
                    budget_usd=self._budget(),
                )
            ]
        del account.keys[provider]
        return [KeyRemoved(revision=account.revision, provider=provider, key_id=key_id)]

    def _deleted(self, account: Account) -> EventData:
        account.revision += 1
        account.keys.clear()
        account.deleted = True
        return AccountDeleted(revision=account.revision)

    def _request(self, account: Account) -> EventData:
        rng = self._world.rng
        self._count += 1
        request_id = f"req-{self._count}"
        # Some mails come again: those are answered by reuse.
        mark = f"mark-{rng.randint(1, 3) if rng.random() < 0.3 else self._count}"
        if self._asked and rng.random() < 0.08:
            request_id = rng.choice(self._asked).request_id
        expires = None
        if rng.random() < 0.2:
            expires = self._outside.moment() + timedelta(seconds=rng.choice((5, 60, 600)))
        request = self._about_mail(account, request_id, mark, expires)
        self._asked.append(request)
        return request

    def _about_mail(
        self, account: Account, request_id: str, mark: str, expires: datetime | None = None
    ) -> AnalysisRequested:
        rng = self._world.rng
        self._outside.oracle.marks.setdefault(mark, set()).add((account.name, request_id))
        mail = MailInput.model_validate(
            {
                "subject": f"About {mark}",
                "from": "a@example.org",
                "to": "b@example.org",
                "text": mark,
            }
        )
        return AnalysisRequested(
            request_id=request_id,
            operation=rng.choice((Operation.CLASSIFY, Operation.SUMMARIZE)),
            provider=rng.choice(list(ProviderChoice)),
            sealed_input=seal_input(
                mail.to_json(),
                self._outside.settings.sealing_public,
                account=account.name,
                request_id=request_id,
            ),
            expires_at=expires,
        )

    def _at(self, at: int, account: Account, event: EventData) -> None:
        event_id = f"evt-{len(account.events):03}-{account.name}"
        revision = getattr(event, "revision", 0)
        account.events.append((revision, event_id, event))
        if isinstance(event, AnalysisRequested):
            self.requested[event_id] = (account.name, event.request_id)
        self._outside.at(
            at,
            lambda: self._process.spawn(
                f"publish {event_id}", lambda: self._publish(account.name, event_id, event)
            ),
        )

    def _publish(self, account: str, event_id: str, event: EventData) -> None:
        """Until it is claimed or refused."""
        world, publisher = self._world, self._process.app.publisher
        told = json.dumps(
            event.model_dump(mode="json", exclude={"sealed_key", "sealed_input"}), default=str
        )
        self._process.note(f"publishes {event.event_type} {account} {told}")
        while True:
            try:
                publisher.publish(
                    event,
                    account=account,
                    event_id=event_id,
                    wait="claimed",
                    timeout=AGAIN_SECONDS,
                )
            except (BrokerAway, claims.NotClaimed, *_REDIS):
                self._process.sleep(world.rng.choice((1.0, 5.0)))
            except EventRefused as refused:
                if refused.reason != "queue_full":
                    raise
                self._process.sleep(5.0)
            except claims.Refused as refused:
                if refused.reason == "stale_signature":
                    # A clock jumped: the sentence asks to publish anew.
                    self._process.sleep(5.0)
                    continue
                self.refused[event_id] = refused.reason
                self._process.note(f"is told that it was refused: {refused.reason}")
                return
            else:
                self._process.note("is told that it was claimed")
                break
        if world.chance(0.1):
            with suppress(BrokerAway, EventRefused):
                publisher.publish(event, account=account, event_id=event_id)

    def _change_truth(self) -> None:
        if self._given:
            rng = self._world.rng
            secret = rng.choice(self._given)
            truth = rng.choice((providers.GOOD, providers.REVOKED, providers.NO_QUOTA))
            self._outside.provider.truth[secret] = truth
            self._world.note(f"{secret} is {truth} now")

    def _put_rubbish(self) -> None:
        queue = self._world.rng.choice(("accounts", "keys", "analyses", "usage", "validations"))
        self._outside.queues.put(queue, self._world.rng.choice((b"\xff", b"{}", b'{"args": 1}')))
        self._outside.rubbish.append(queue)

    def look(self, oracle: Any) -> None:
        """Something was committed. While things go wrong, nothing is promised of how soon."""

    # -- what must come of it

    def accounts(self) -> dict[str, list[tuple[Any, ...]]]:
        """The row of each account: what its newest event says."""
        wanted = {}
        for account in self._accounts:
            about = [
                (revision, event_id, event)
                for revision, event_id, event in account.events
                if isinstance(event, AccountUpdated | AccountDeleted)
            ]
            if not about:
                wanted[account.name] = []
                continue
            revision, _, event = max(about, key=lambda one: one[:2])
            if isinstance(event, AccountDeleted):
                wanted[account.name] = [(revision, 1, 0, "")]
            else:
                wanted[account.name] = [(revision, 0, int(event.ai_consent), event.plan)]
        return wanted

    def slots(self) -> dict[tuple[str, str], str | None]:
        """The key of each account and provider that is used in the end."""
        wanted: dict[tuple[str, str], str | None] = {}
        for account in self._accounts:
            void = max(
                (r for r, _, event in account.events if isinstance(event, AccountDeleted)),
                default=-1,
            )
            known = bool(self.accounts()[account.name]) and not self._is_deleted(account)
            for provider in Provider:
                about = [
                    (revision, event_id, event)
                    for revision, event_id, event in account.events
                    if isinstance(event, KeyAdded | KeyReplaced | KeyRemoved)
                    and event.provider is provider
                    and revision > void
                    and event_id not in self.refused
                ]
                if not known:
                    # What of a next life came before the end of this one stays, else it is refused.
                    continue
                newest = max(about, key=lambda one: one[:2], default=None)
                if newest is None or isinstance(newest[2], KeyRemoved):
                    wanted[account.name, provider.value] = None
                else:
                    wanted[account.name, provider.value] = newest[2].key_id
        return wanted

    def _is_deleted(self, account: Account) -> bool:
        (row,) = self.accounts()[account.name]
        return bool(row[1])


def _redis_errors() -> tuple[type[Exception], ...]:
    import redis  # noqa: PLC0415 -- for its errors alone

    return (redis.RedisError,)


_REDIS = _redis_errors()
