"""The audit from outside: the publishers' log, the stream and the bill against the store.

It reads the store by statements of its own, and runs the project's own audit beside that.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sqlalchemy import select, text

from store.audit import audit as own_audit
from store.ledger import BILLED
from store.schema import attempts, ledger
from tests.chaos.load import OWN_KEYS, Numbered
from tests.chaos.run import Ran, Struck
from tests.road import PLATFORM_ANTHROPIC, PLATFORM_OPENAI
from tests.simulation.oracle import TERMINAL, TERMINAL_EVENTS
from workers.usage.bill import compare

UNTOLD_SECONDS = 5.0
"""A stream that is lost may take what was told so shortly before with it, unread."""

MEANT = (("revoked", "key_invalid"),)
"""Failures (account, reason) that are what the load asks for."""

AFTERMATH_SECONDS = 15.0


@dataclass
class Row:
    """What became of the requests that were published around a kind of fault."""

    times: int = 0
    accepted: int = 0
    terminal: int = 0
    lost: int = 0
    alone: int = 0
    """Requests that only the broker held when it lost everything."""
    double_results: int = 0
    double_rows: int = 0
    unknown: int = 0
    unbooked: int = 0
    """Calls on the bill and on no ledger: each must be an unknown attempt."""
    taken_up: list[float] = field(default_factory=list)
    """Seconds from the fault's end until an event was claimed."""
    recovered: list[float] = field(default_factory=list)
    """Seconds from the fault's end until all that was asked for before had ended."""


@dataclass
class Report:
    """The audit's findings."""

    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    wrong: list[str] = field(default_factory=list)
    billed: int = 0
    booked: int = 0
    unbooked: int = 0
    unknown: int = 0
    credits: tuple[int, int] = (0, 0)
    """Credits used, and operations of the ledger that the platform paid for."""
    ended: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    """How many requests needed how many attempts."""
    again: list[float] = field(default_factory=list)
    """Seconds from a worker's SIGKILL until each attempt that it had under way was run again."""
    late: list[float] = field(default_factory=list)
    """Seconds by which waiting requests were taken up after they were due, in calm times."""
    calls_a_second: list[int] = field(default_factory=list)
    keys: int = 0
    published: int = 0
    publishing_attempts: int = 0
    told_to_send_again: int = 0
    quiet_after: float | None = None


def audit(ran: Ran) -> Report:
    """Hold everything against everything."""
    return _Auditor(ran).report


class _Auditor:
    def __init__(self, ran: Ran) -> None:
        self.ran = ran
        self.report = Report(wrong=list(ran.wrong), quiet_after=ran.quiet_after)
        with ran.system.road.app.database.snapshot() as connection:
            self._connection = connection
            self.requests = {
                row.request_id: row
                for row in self._all(
                    "SELECT account_id, request_id, state, reason, attempt, finished_at"
                    " FROM analyses"
                )
            }
            self.attempts = self._all(
                "SELECT account_id, request_id, attempt, state, outcome, provider, credential,"
                " key_id, started_at, provider_request_id FROM attempts"
            )
            self.ledger = self._all("SELECT * FROM ledger")
            self.bill = ran.system.sandbox.billed_calls()
            self._by_publishers()
            self._results()
            self._ledger_rows()
            self._bill()
            self._credits()
            self._keys()
            self._set_aside()
            self._own_audit()
        self._figures()

    def _all(self, sql: str) -> list[Any]:
        return list(self._connection.execute(text(sql)))

    def _wrong(self, sentence: str) -> None:
        self.report.wrong.append(sentence)

    def _row(self, one: Numbered) -> Row:
        return self.report.rows[self.ran.struck[one.step].fault.name]

    @property
    def _asked(self) -> list[Numbered]:
        return [one for one in self.ran.load.numbered if one.is_analysis]

    # -- what was accepted has ended

    def _by_publishers(self) -> None:
        load, system = self.ran.load, self.ran.system
        for struck in self.ran.struck:
            self.report.rows[struck.fault.name].times += 1
        self.report.published = len(load.numbered)
        self.report.publishing_attempts = sum(one.attempts for one in load.numbered)
        self.report.told_to_send_again = sum(one.not_claimed for one in load.numbered)
        for one in self._asked:
            row, known = self._row(one), self.requests.get(one.about)
            if one.refused is not None:
                self._wrong(f"{one.about} was refused: {one.refused}")
            if not one.is_acknowledged:
                self._wrong(f"{one.about} was never acknowledged")
                continue
            held_alone = one.event_id in system.held_alone and not one.wants_claim
            if known is None and held_alone:
                row.alone += 1
                continue
            row.accepted += 1
            if known is not None and known.state in TERMINAL:
                row.terminal += 1
                self._ended(one, known)
            else:
                row.lost += 1
                self._wrong(
                    f"{one.about} was acknowledged and "
                    + ("is not in the store" if known is None else f"is {known.state}")
                )
        for kind, count in load.undocumented.items():
            self._wrong(f"publishing raised {kind}, which it does not say that it does: {count}")

    def _ended(self, one: Numbered, known: Any) -> None:
        self.report.ended[f"{known.state} {known.reason}".strip()] += 1
        self.report.attempts[known.attempt] += 1
        meant = one.poison or (one.account, known.reason) in MEANT
        if known.state == "failed" and not meant:
            self._wrong(f"{one.about} failed after {known.attempt} attempts: {known.reason}")

    # -- once

    def _results(self) -> None:
        told: dict[str, set[str]] = defaultdict(set)
        for event_id, (kind, request_id) in self.ran.system.follower.seen.items():
            if kind in TERMINAL_EVENTS and request_id is not None:
                told[request_id].add(event_id)
        for one in self._asked:
            known = self.requests.get(one.about)
            if known is None or known.state not in TERMINAL:
                continue
            if len(told[one.about]) > 1:
                self._row(one).double_results += 1
                self._wrong(f"{one.about} was told to have ended {len(told[one.about])} times")
            if not told[one.about] and not self._stream_was_lost(known):
                self._wrong(f"{one.about} has ended and nobody was told")

    def _stream_was_lost(self, known: Any) -> bool:
        if self.ran.system.queue is not self.ran.system.valkey:
            return False
        at = self.ran.system.real(known.finished_at)
        return any(0 <= lost - at <= UNTOLD_SECONDS for lost in self.ran.system.emptied_at)

    def _ledger_rows(self) -> None:
        completing = Counter(row.request_id for row in self.ledger if row.completes)
        billed = [row for row in self.ledger if row.kind in BILLED]
        calls = Counter((row.request_id, row.attempt) for row in billed)
        answers = Counter(row.provider_request_id for row in billed)
        double = {name for name, count in completing.items() if count > 1}
        double |= {name for (name, _), count in calls.items() if count > 1}
        double |= {row.request_id for row in billed if answers[row.provider_request_id] > 1}
        for one in self._asked:
            known = self.requests.get(one.about)
            if one.about in double:
                self._row(one).double_rows += 1
                self._wrong(f"{one.about} is on the ledger twice")
            if known is not None and (known.state == "completed") != (completing[one.about] > 0):
                self._wrong(f"{one.about} is {known.state} and the ledger says otherwise")

    # -- paid

    def _bill(self) -> None:
        report = self.report
        billed = {row.provider_request_id: row for row in self.ledger if row.kind in BILLED}
        unknown = [attempt for attempt in self.attempts if attempt.state == "unknown"]
        charged = {call["request_id"]: call for call in self.bill}
        unbooked = [call for name, call in charged.items() if name not in billed]
        report.billed, report.booked = len(charged), len(billed)
        report.unbooked, report.unknown = len(unbooked), len(unknown)
        for name, row in billed.items():
            call = charged.get(name)
            if call is None:
                self._wrong(f"{name} is on the ledger and not on the bill")
            elif any(getattr(row, tokens) != call[tokens] for tokens in _TOKENS):
                self._wrong(f"{name} has other tokens on the ledger than on the bill")
        lost = Counter(self._digest(attempt) for attempt in unknown)
        for digest, count in Counter(call["key_digest"] for call in unbooked).items():
            if count > lost[digest]:
                self._wrong(
                    f"{count} calls of one key are on the bill alone, and {lost[digest]} of its"
                    " attempts are unknown"
                )
        steps = {one.about: one for one in self._asked}
        for attempt in unknown:
            if attempt.request_id in steps:
                self._row(steps[attempt.request_id]).unknown += 1
        for call in unbooked:
            struck = self._during(call["at"])
            if struck is not None:
                report.rows[struck.fault.name].unbooked += 1

    def _digest(self, attempt: Any) -> str:
        account = self.ran.system.key_ids.get(attempt.key_id)
        if attempt.credential == "platform":
            secret = PLATFORM_OPENAI if attempt.provider == "openai" else PLATFORM_ANTHROPIC
        else:
            secret = OWN_KEYS.get(account or "", "")
        return sha256(secret.encode()).hexdigest()

    def _during(self, moment: float) -> Struck | None:
        before = [struck for struck in self.ran.struck if struck.at <= moment + 5]
        return before[-1] if before else None

    def _credits(self) -> None:
        used = {
            row.account_id: int(row.used)
            for row in self._all(
                "SELECT account_id, sum(used) AS used FROM credit_periods GROUP BY account_id"
            )
        }
        reserved = self._all("SELECT account_id FROM credit_periods WHERE reserved != 0")
        paid = Counter(
            self.requests[row.request_id].account_id
            for row in self.ledger
            if row.completes
            and row.credential == "platform"
            and row.kind in BILLED
            and row.request_id in self.requests
        )
        self.report.credits = (sum(used.values()), paid.total())
        for account in {*used, *paid}:
            if used.get(account, 0) != paid[account]:
                self._wrong(
                    f"{account} used {used.get(account, 0)} credits for {paid[account]} operations"
                )
        for row in reserved:
            self._wrong(f"credits of {row.account_id} are reserved for good")

    # -- keys, and what else there is

    def _keys(self) -> None:
        known = {row.key_id: row for row in self._all("SELECT * FROM provider_keys")}
        events = [one for one in self.ran.load.numbered if not one.is_analysis]
        removed = {one.about for one in events if "removed" in one.data.event_type}
        self.report.keys = len(events)
        for one in events:
            if one.claimed_at is None:
                self._wrong(f"{one.about} was never acknowledged: {one.refused}")
        last: dict[str, Numbered] = {}
        for one in events:
            if "added" in one.data.event_type:
                last[one.account] = one
        for one in last.values():
            key = known.get(one.about)
            gone = one.about in removed
            if key is None:
                if not gone:
                    self._wrong(f"the key {one.about} is not in the store")
            elif gone != (key.removed_at is not None) or (gone and key.ciphertext is not None):
                self._wrong(f"the key {one.about} is {'' if gone else 'not '}to be removed")
            elif not gone and key.status != "valid":
                self._wrong(f"the key {one.about} is {key.status} ({key.reason})")

    def _set_aside(self) -> None:
        reasons = Counter(row.reason for row in self._all("SELECT reason FROM set_aside"))
        for reason, count in reasons.items():
            self._wrong(f"{count} messages were set aside: {reason}")

    def _own_audit(self) -> None:
        found = own_audit(self._connection)
        rows = self._connection.execute(select(ledger).where(ledger.c.kind.in_(BILLED))).all()
        lost = self._connection.execute(
            select(attempts.c.provider, attempts.c.credential).where(
                attempts.c.state.in_(("started", "unknown"))
            )
        ).all()
        app = self.ran.system.road.app
        compare(app, found, rows, set(), lost, self.bill, self.bill)
        for finding in found.findings:
            self._wrong(f"{finding.check}: {finding.about} {finding.sentence}")

    # -- figures: told, never demanded

    def _figures(self) -> None:
        self._recoveries()
        self._runs_again()
        self._lateness()
        seconds = Counter(int(call["at"]) for call in self.bill)
        if seconds:
            whole = range(min(seconds), max(seconds) + 1)
            self.report.calls_a_second = [seconds[second] for second in whole]

    def _recoveries(self) -> None:
        claimed = sorted(one.claimed_at for one in self.ran.load.numbered if one.claimed_at)
        real = self.ran.system.real
        for number, struck in enumerate(self.ran.struck):
            row = self.report.rows[struck.fault.name]
            after = next((at for at in claimed if at >= struck.healed_at), None)
            if after is not None:
                row.taken_up.append(after - struck.healed_at)
            ends = [
                real(known.finished_at)
                for one in self._asked
                if one.step <= number
                and not one.poison
                and (one.queued_at or 0) <= struck.healed_at
                and (known := self.requests.get(one.about)) is not None
                and known.finished_at is not None
            ]
            row.recovered.append(max(0.0, max(ends, default=0) - struck.healed_at))

    def _runs_again(self) -> None:
        """For each attempt that a SIGKILL met: when its request was run again."""
        started = {
            (row.account_id, row.request_id, row.attempt): row.started_at for row in self.attempts
        }
        for at, under_way in self.ran.killed:
            for account, request, attempt in under_way:
                again = started.get((account, request, attempt + 1))
                if again is not None:
                    self.report.again.append(self.ran.system.real(again) - at)

    def _lateness(self) -> None:
        for (_, _, due), seen in self.ran.parked.items():
            moment = self.ran.system.real(due)
            # In an outage nothing is taken up, and one is not over with its cause.
            calm = all(
                not struck.at - 1 <= moment <= struck.healed_at + AFTERMATH_SECONDS
                for struck in self.ran.struck
            )
            if calm and seen >= due:
                self.report.late.append((seen - due) / 1000)


_TOKENS = ("input_tokens", "cached_read_tokens", "cache_write_tokens", "output_tokens")


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value that this share of the values is not above; `None` where there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: list[int]) -> float:
    """The median; 0 where there are none."""
    return statistics.median(values) if values else 0.0
