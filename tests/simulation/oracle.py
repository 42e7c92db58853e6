"""What must hold, looked at after every commit and once more when all has drained.

The oracle reads the store by statements of its own and believes nothing that the code says of
itself: it knows what upstream published, what the providers charged, and which commit came when.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from events import Provider
from events.stream import STREAM
from store import ledger
from tests.simulation.bindings import Bindings
from tests.simulation.budgets import Budgets
from tests.simulation.operator import KNOWN_MS
from tests.simulation.provider import Billed
from workers.cli.pause import Kind

PROBES = "~probe:"
"""How the request id of a billed validation begins."""

TERMINAL = ("completed", "failed", "skipped")

TERMINAL_EVENTS = (
    "byok.analysis.completed.v1",
    "byok.analysis.failed.v1",
    "byok.analysis.skipped.v1",
)

IN_VAIN = ("unknown_account", "stale_signature")
"""Why a key event that waited for its account is refused in the end: it, or a clock that jumped."""

INTERNAL = ("internal_error", "vault_unreadable", "input_unreadable", "not_json")
"""Reasons that no history may end in: each is a fault of ours."""


@dataclass
class Claim:
    """An attempt that was committed, and what it may call with."""

    account: str
    request: str
    attempt: int
    process: Any
    secret: str
    asked: bool = False


@dataclass
class Oracle:
    """The invariants, and what is needed to tell whether they hold."""

    outside: Any
    marks: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """What a mail's mark stands for: the requests (account, id) that are about it."""
    secrets: dict[tuple[str, int], str] = field(default_factory=dict)
    """The secret of a key id at a revision."""
    claims: list[Claim] = field(default_factory=list)
    used: Counter[tuple[str, int]] = field(default_factory=Counter)
    commits: int = 0
    _requests: dict[tuple[str, str], Any] = field(default_factory=dict)
    _keys: dict[str, Any] = field(default_factory=dict)
    _periods: dict[tuple[str, int], int] = field(default_factory=dict)
    _attempts: set[tuple[str, str, int]] = field(default_factory=set)
    _ledger: int = 0
    _outbox_seen: set[str] = field(default_factory=set)
    _recorded: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._budgets = Budgets(self)
        self._bindings = Bindings(self)

    def broken(self, invariant: str) -> None:
        """Note that something does not hold."""
        self.outside.world.note(f"BROKEN: {invariant}")
        self.outside.world.failures.append(invariant)

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Read the store past everything that is under test."""
        return self.outside.raw.execute(sql, values).fetchall()

    # -- at every commit

    def look(self, process: Any) -> None:
        """A transaction of `process` was committed."""
        self.commits += 1
        self._look_at_usage()
        self._look_at_keys(process)
        self._look_at_requests(process)
        self._look_at_claims(process)
        self._look_at_credits()
        self._budgets.look()
        self.outside.upstream.look(self)

    def has_ended(self, account: str, request_id: str) -> bool:
        """Whether a request is in a terminal state."""
        row = self._requests.get((account, request_id))
        return row is not None and row["state"] in TERMINAL

    def _look_at_requests(self, process: Any) -> None:
        now = {
            (row["account_id"], row["request_id"]): row
            for row in self.rows(
                "SELECT account_id, request_id, state, reason, attempt, credit_period_at,"
                " credential, answered_by, key_id, due_at, process_id, event_id,"
                " input IS NOT NULL AS has_input FROM analyses"
            )
        }
        for name, before in self._requests.items():
            after = now.get(name)
            if after is None:
                self.broken(f"1: the request {name} vanished")
                continue
            if before["state"] in TERMINAL and before["state"] != after["state"]:
                self.broken(f"1: {name} left {before['state']} for {after['state']}")
            if after["attempt"] < before["attempt"]:
                self.broken(f"1: {name} lost an attempt's number")
        for name, after in now.items():
            before = self._requests.get(name)
            if after["state"] == "waiting" and after["due_at"] is None:
                self.broken(f"1: {name} waits for nothing")
            if after["state"] == "running" and after["process_id"] is None:
                self.broken(f"1: {name} runs nowhere")
            if after["state"] in INTERNAL or after["reason"] in INTERNAL:
                self.broken(f"1: {name} ended {after['state']}: {after['reason']}")
            was_open = before is None or before["state"] not in TERMINAL
            if was_open and after["state"] == "completed" and after["answered_by"] == "model":
                self._note_completed(name, before, after)
            if was_open and (after["state"], after["reason"]) == ("skipped", "budget"):
                self._budgets.skipped(*name)
            if before is None and after["has_input"]:
                self._bindings.input(*name, process.app.vault)
        self._requests = now

    def _note_completed(self, name: tuple[str, str], before: Any, after: Any) -> None:
        if after["credential"] != "platform":
            return
        if before is None or before["credit_period_at"] is None:
            self.broken(f"3: {name} was completed on the platform and held no credit")
            return
        self.used[name[0], before["credit_period_at"]] += 1

    def _look_at_claims(self, process: Any) -> None:
        for row in self.rows("SELECT * FROM attempts WHERE state = 'started'"):
            account, request, key_id = row["account_id"], row["request_id"], row["key_id"]
            name = (account, request, row["attempt"])
            if name in self._attempts:
                continue
            self._attempts.add(name)
            if request.startswith(PROBES):
                key = self._keys[key_id]
                secret = self.secrets[key_id, key["revision"]]
                self.claims.append(Claim(account, request, row["attempt"], process, secret))
                continue
            self._budgets.claimed(row)
            self._look_at_pauses(process, account, row["provider"], request)
            known = self.rows("SELECT * FROM accounts WHERE account_id = ?", account)
            if not known or known[0]["deleted"] or not known[0]["ai_consent"]:
                self.broken(f"8: {request} was claimed without consent")
            if key_id is None:
                secret = self.outside.platform[Provider(row["provider"])]
            else:
                key = self._keys.get(key_id)
                slot = self.rows(
                    "SELECT key_id FROM key_slots WHERE account_id = ? AND provider = ?",
                    account,
                    row["provider"],
                )
                if key is None or key["removed_at"] is not None or not key["has_secret"]:
                    self.broken(f"6: {request} was claimed with the removed key {key_id}")
                    continue
                if not slot or slot[0]["key_id"] != key_id:
                    self.broken(f"6: {request} was claimed with {key_id}, which was replaced")
                if key["status"] != "valid" or key["reason"] == "no_quota":
                    self.broken(f"6: {request} was claimed with a key that is {key['status']}")
                secret = self.secrets[key_id, key["revision"]]
            self.claims.append(Claim(account, request, row["attempt"], process, secret))

    def _look_at_pauses(self, process: Any, account: str, provider: str, request: str) -> None:
        operators = self.outside.operators
        for kind, name in ((Kind.PROVIDER, provider), (Kind.ACCOUNT, account)):
            if operators.is_known(process, kind, name):
                self.broken(f"8: {request} was claimed and the {kind} {name} is paused")

    def _look_at_keys(self, process: Any) -> None:
        now = {
            row["key_id"]: row
            for row in self.rows(
                "SELECT key_id, account_id, provider, revision, status, reason, tested_at,"
                " last_ok_at,"
                " removed_at, validate_at, validation_no, suspect_at,"
                " ciphertext IS NOT NULL OR wrapped_key IS NOT NULL AS has_secret"
                " FROM provider_keys"
            )
        }
        for key_id, after in now.items():
            before = self._keys.get(key_id)
            if after["removed_at"] is not None and after["has_secret"]:
                self.broken(f"6: the removed key {key_id} has its secret still")
            if after["has_secret"] and (before is None or before["revision"] != after["revision"]):
                self._bindings.key(after, process.app.vault)
            if before is None:
                continue
            same_life = before["revision"] == after["revision"]
            if same_life and before["removed_at"] is not None and tuple(before) != tuple(after):
                self.broken(f"6: the removed key {key_id} changed")
            if same_life and (before["status"], before["reason"]) != (
                after["status"],
                after["reason"],
            ):
                self._look_at_verdict(key_id, after)
        self._keys = now

    def _look_at_verdict(self, key_id: str, after: Any) -> None:
        secret = self.secrets[key_id, after["revision"]]
        providers = self.outside.provider
        if after["status"] == "valid" and after["reason"] == "ok":
            if secret not in providers.accepted:
                self.broken(f"6: {key_id} is valid by another secret's answer")
        elif after["status"] == "invalid" and secret not in providers.refused:
            self.broken(f"7: {key_id} is invalid and no provider refused it: {after['reason']}")

    def _look_at_credits(self) -> None:
        held = Counter(
            (name[0], row["credit_period_at"])
            for name, row in self._requests.items()
            if row["credit_period_at"] is not None
        )
        limits = {
            (row["account_id"], row["period_start_at"]): row["credits_limit"]
            for row in self.rows("SELECT * FROM accounts WHERE NOT deleted")
        }
        for row in self.rows("SELECT * FROM credit_periods"):
            period = (row["account_id"], row["period_start_at"])
            taken = row["used"] + row["reserved"]
            if row["reserved"] != held[period]:
                self.broken(f"3: {period} has {row['reserved']} reserved, held {held[period]}")
            if row["used"] != self.used[period]:
                self.broken(f"3: {period} has {row['used']} used, spent {self.used[period]}")
            limit = limits.get(period)
            if limit is not None and taken > limit and taken > self._periods.get(period, 0):
                self.broken(f"3: {period} is overdrawn: {taken} of {limit}")
            self._periods[period] = taken

    def _look_at_usage(self) -> None:
        """Each charged call is written down once, in the outbox and then on the ledger."""
        for row in self.rows("SELECT id, payload FROM outbox WHERE kind = 'usage'"):
            if row["id"] not in self._outbox_seen:
                self._outbox_seen.add(row["id"])
                self._look_at_usage_row(json.loads(row["payload"]))
        (highest,) = self.rows("SELECT max(rowid) AS at FROM ledger")
        if (highest["at"] or 0) != self._ledger:
            self._ledger = highest["at"]
            self._look_at_rollups()
            self._budgets.look_at_spent()
            for row in self.rows("SELECT id FROM ledger"):
                if row["id"] not in self._outbox_seen:
                    self.broken(f"2: {row['id']} is on the ledger and was never in the outbox")

    def _look_at_usage_row(self, row: dict[str, Any]) -> None:
        if row["kind"] == ledger.NONE:
            name = f"none {row['request_id']} {row['surrogate']}"
        else:
            name = str(row["provider_request_id"])
            billed = self._billed(name)
            if billed is None or billed.provider != row["provider"]:
                self.broken(f"2: {name} is on the ledger and on no bill")
            elif (billed.tokens.input, billed.tokens.output) != (
                row["input_tokens"],
                row["output_tokens"],
            ):
                self.broken(f"2: {name} has other tokens than the bill")
        if name in self._recorded:
            self.broken(f"2: {name} is on the ledger twice")
        self._recorded[name] = row["id"]
        self._budgets.recorded(row)

    def _billed(self, request_id: str) -> Billed | None:
        return next(
            (one for one in self.outside.provider.bill if one.request_id == request_id), None
        )

    def _look_at_rollups(self) -> None:
        sums = (
            "SELECT {calls} AS calls, {operations} AS operations, sum(cost_nano_usd) AS cost,"
            " sum(input_tokens) AS i, sum(output_tokens) AS o FROM {table}"
        )
        ((ours),) = self.rows(
            sums.format(calls="sum(kind != 'none')", operations="sum(completes)", table="ledger")
        )
        ((theirs),) = self.rows(
            sums.format(calls="sum(calls)", operations="sum(operations)", table="daily_usage")
        )
        if tuple(ours) != tuple(theirs):
            self.broken(f"2: the rollups {tuple(theirs)} are not the ledger {tuple(ours)}")

    # -- at a provider

    def called(self, process: Any, provider: Provider) -> None:
        """A provider is called: nobody has paused it for long."""
        since = self.outside.operators.since(Kind.PROVIDER, provider)
        if since is not None:
            at = max(since[1], self.outside.calm_since)
            if self.outside.world.now - at > KNOWN_MS:
                self.broken(f"8: {process.name} calls {provider}, which is paused")

    def asked(self, process: Any, secret: str, mark: str) -> None:
        """A mail is sent: some claim must have said so, and each claim is sent once."""
        for claim in self.claims:
            if (
                not claim.asked
                and claim.process is process
                and claim.secret == secret
                and (claim.account, claim.request) in self.marks[mark]
            ):
                claim.asked = True
                return
        self.broken(f"5: {mark} was sent by {process.name} with {secret!r} and no such claim")

    def probed(self, process: Any, secret: str) -> None:
        """A key is tried: it has to be one that upstream gave."""
        if secret not in self.outside.provider.truth:
            self.broken(f"6: {process.name} tries a secret that nobody gave: {secret!r}")

    def spent(self, process: Any, secret: str) -> None:
        """A billed validation is sent: it was noted before, and is sent once."""
        for claim in self.claims:
            noted = claim.request.startswith(PROBES) and claim.process is process
            if noted and not claim.asked and claim.secret == secret:
                claim.asked = True
                return
        self.broken(f"2: {process.name} sends a billed validation that was not noted")

    # -- when all has drained

    def audit(self) -> None:
        """Everything that was accepted has ended, and the books are the bill."""
        for name, row in self._requests.items():
            if row["state"] not in TERMINAL:
                self.broken(f"1: {name} has not ended: {row['state']} {row['reason']}")
        for row in self.rows("SELECT * FROM attempts WHERE state = 'started'"):
            self.broken(f"2: the attempt {row['request_id']}/{row['attempt']} was never ended")
        for row in self.rows("SELECT * FROM analyses WHERE input IS NOT NULL"):
            self.broken(f"1: {row['request_id']} has ended and keeps its input")
        for row in self.rows("SELECT * FROM credit_periods WHERE reserved != 0"):
            self.broken(f"3: a credit of {row['account_id']} is reserved for good")
        for row in self.rows("SELECT queue, reason FROM set_aside"):
            if row["reason"] in INTERNAL:
                self.broken(f"10: a message was set aside: {row['reason']}")
        self._budgets.audit(self._events())
        self._audit_bill()
        self._audit_counts()
        self._audit_events()
        self._audit_upstream()

    def _audit_bill(self) -> None:
        on_ledger = {row["provider_request_id"] for row in self.rows("SELECT * FROM ledger")}
        unknown: list[tuple[str, str, str]] = []
        for row in self.rows("SELECT * FROM attempts WHERE state = 'unknown'"):
            claim = next(
                claim
                for claim in self.claims
                if (claim.account, claim.request, claim.attempt)
                == (row["account_id"], row["request_id"], row["attempt"])
            )
            unknown.append((claim.account, claim.request, claim.secret))
        for billed in self.outside.provider.bill:
            if billed.request_id in on_ledger:
                continue
            found = next(
                (
                    one
                    for one in unknown
                    if one[2] == billed.secret
                    and (
                        one[1].startswith(PROBES)
                        if billed.probe
                        else one[:2] in self.marks[billed.mark]
                    )
                ),
                None,
            )
            if found is None:
                self.broken(f"2: {billed} is neither on the ledger nor an unknown attempt")
            else:
                unknown.remove(found)
        answered = Counter(
            row["provider_request_id"]
            for row in self.rows("SELECT * FROM attempts WHERE state = 'answered'")
        )
        calls = Counter(
            row["provider_request_id"]
            for row in self.rows("SELECT * FROM ledger WHERE kind != 'none'")
        )
        if answered != calls:
            self.broken(f"2: answered attempts {answered} and ledger rows {calls} differ")

    def _audit_counts(self) -> None:
        rows = self.rows("SELECT * FROM ledger")
        completing = Counter(row["request_id"] for row in rows if row["completes"])
        completed = Counter(
            name[1] for name, row in self._requests.items() if row["state"] == "completed"
        )
        if completing != completed:
            self.broken(f"2: operations {completing} are not the completed {completed}")
        handled = Counter(row["key_id"] for row in rows if row["completes"] and row["key_id"])
        for row in self.rows("SELECT key_id, requests FROM provider_keys"):
            if row["requests"] != handled[row["key_id"]]:
                self.broken(f"2: {row['key_id']} counts {row['requests']} requests")
        self._look_at_rollups()

    def _audit_events(self) -> None:
        told = Counter(
            (event["subject"], event["data"]["request_id"])
            for event in self._events()
            if event["type"] in TERMINAL_EVENTS
        )
        for name in self._requests:
            if told[name] != 1:
                self.broken(f"1: the end of {name} was told {told[name]} times")

    def _events(self) -> list[Any]:
        """What was told, repeats dropped as consumers do it."""
        entries = self.outside.valkey.entries(STREAM)
        events = [json.loads(entry["event"]) for entry in entries]
        return list({event["id"]: event for event in events}.values())

    def _audit_upstream(self) -> None:
        """What upstream published and was told is claimed stands in the store as it should."""
        refused = self.outside.upstream.refused
        refused.update(
            {
                event["data"]["event_id"]: event["data"]["reason"]
                for event in self._events()
                if event["type"] == "byok.event.rejected.v1" and event["data"]["reason"] in IN_VAIN
            }
        )
        for event_id, (account, request) in self.outside.upstream.requested.items():
            if (account, request) not in self._requests and event_id not in refused:
                self.broken(f"1: {request} was claimed and is nowhere")
        for account, wanted in self.outside.upstream.accounts().items():
            rows = self.rows(
                "SELECT revision, deleted, ai_consent, plan FROM accounts WHERE account_id = ?",
                account,
            )
            if [tuple(row) for row in rows] != wanted:
                self.broken(f"6: {account} is {[tuple(r) for r in rows]}, not {wanted}")
        for (account, provider), key_id in self.outside.upstream.slots().items():
            if self._waited_in_vain(account, refused):
                # Which of its key events came in time is not for the oracle to say.
                continue
            rows = self.rows(
                "SELECT key_id FROM provider_keys WHERE account_id = ? AND provider = ?"
                " AND removed_at IS NULL",
                account,
                provider,
            )
            found = [row["key_id"] for row in rows]
            if found != ([key_id] if key_id else []):
                self.broken(f"6: {account}'s key for {provider} is {found}, not {key_id}")

    def _waited_in_vain(self, account: str, refused: dict[str, str]) -> bool:
        return any(
            event_id.endswith(f"-{account}") and reason in IN_VAIN
            for event_id, reason in refused.items()
        )
