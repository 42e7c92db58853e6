"""What must hold of budgets, by the oracle's own account of what was spent."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from store import accounts, budgets

ONE_CALL = 10_000_000
"""More nano-dollars than any call of these histories may cost at most."""

Month = tuple[str, str]
"""A scope and a month."""


class Budgets:
    """Budgets are never passed by a claim, and hold nothing that no attempt holds."""

    def __init__(self, oracle: Any) -> None:
        self._oracle = oracle
        self._outside = oracle.outside
        self._used: Counter[Month] = Counter()
        self._reserved: dict[tuple[str, str, int, str], int] = {}
        self._held_before: Counter[Month] = Counter()
        """What attempts held of each month before the commit that is looked at."""
        self._settled: set[tuple[str, str, int, str]] = set()

    @property
    def _is_asked(self) -> bool:
        """Whether anything has a budget in this history."""
        return bool(self._outside.budgeted)

    def recorded(self, row: dict[str, Any]) -> None:
        """A charged call was written down, for the ledger to come."""
        for month in self._months_of(row):
            self._used[month] += row["cost_nano_usd"]

    def _months_of(self, row: Any) -> list[Month]:
        local = row["local_date"][:7]
        found = [(budgets.account_scope(row["surrogate"]), local)]
        if row["key_id"] is not None:
            found.append((budgets.key_scope(row["key_id"]), local))
        if row["credential"] == budgets.PLATFORM:
            at = datetime.fromtimestamp(int(row["id"].replace("-", "")[:12], 16) / 1000, tz=UTC)
            found.append((budgets.PLATFORM, f"{at:%Y-%m}"))
        return found

    def _caps(self, account: str, key_id: str | None) -> dict[str, int]:
        """What an attempt that is claimed now is capped by."""
        rows = self._oracle.rows
        found: dict[str, int] = {}
        known = rows("SELECT budget_nano_usd FROM accounts WHERE account_id = ?", account)
        of_account = known[0][0] if known else None
        if of_account is not None:
            ((surrogate,),) = rows(
                "SELECT surrogate FROM surrogates WHERE account_id = ?", account
            ) or [("none",)]
            found[budgets.account_scope(surrogate)] = of_account
        if key_id is None:
            platform = self._outside.settings.platform_budget_usd
            if platform is not None:
                found[budgets.PLATFORM] = int(platform * accounts.NANO)
        else:
            of_key = rows(
                "SELECT budget_nano_usd FROM key_settings WHERE account_id = ? AND key_id = ?",
                account,
                key_id,
            )
            if of_key and of_key[0][0] is not None:
                found[budgets.key_scope(key_id)] = of_key[0][0]
        return found

    def claimed(self, attempt: Any) -> None:
        """An attempt was committed: every budget has as much left as it may cost."""
        if not self._is_asked:
            return
        name = (attempt["account_id"], attempt["request_id"], attempt["attempt"])
        holds = {
            row["scope"]: row
            for row in self._oracle.rows(
                "SELECT * FROM budget_holds"
                " WHERE account_id = ? AND request_id = ? AND attempt = ?",
                *name,
            )
        }
        caps = self._caps(attempt["account_id"], attempt["key_id"])
        if set(holds) != set(caps):
            self._broken(f"{name} was claimed under {sorted(caps)} and holds {sorted(holds)}")
        for scope in set(holds) & set(caps):
            month = (scope, holds[scope]["month"])
            held = self._held(month)
            self._reserved[*name, scope] = holds[scope]["nano_usd"]
            if not 0 < holds[scope]["nano_usd"] < ONE_CALL:
                self._broken(f"{name} reserves {holds[scope]['nano_usd']}")
            if self._used[month] + held > caps[scope]:
                self._broken(
                    f"{name} passes the budget of {scope}: "
                    f"{self._used[month]} and {held} of {caps[scope]}"
                )
            if month[1] != self._month_now(scope, attempt["account_id"]):
                self._broken(f"{name} is in the month {month[1]} of {scope}")

    def _month_now(self, scope: str, account: str) -> str:
        zone = "UTC"
        if scope != budgets.PLATFORM:
            ((zone,),) = self._oracle.rows(
                "SELECT timezone FROM accounts WHERE account_id = ?", account
            )
        at = datetime.fromtimestamp(self._outside.world.wall() / 1000, tz=ZoneInfo(zone))
        return f"{at:%Y-%m}"

    def _held(self, month: Month) -> int:
        ((held,),) = self._oracle.rows(
            "SELECT coalesce(sum(nano_usd), 0) FROM budget_holds"
            " WHERE scope = ? AND month = ? AND row_id IS NULL",
            *month,
        )
        return int(held)

    def skipped(self, account: str, request: str) -> None:
        """A request was skipped for want of a budget: one was short, and that was told."""
        keys = self._oracle.rows("SELECT key_id FROM provider_keys WHERE account_id = ?", account)
        caps: dict[str, int] = {}
        for key_id in (None, *(row["key_id"] for row in keys)):
            caps |= self._caps(account, key_id)
        for scope, cap in caps.items():
            month = (scope, self._month_now(scope, account))
            told = self._oracle.rows(
                "SELECT 1 FROM budget_months"
                " WHERE scope = ? AND month = ? AND reached_at IS NOT NULL",
                *month,
            )
            # What its own lost attempts held is given back by the commit that skips it.
            if told and self._used[month] + self._held_before[month] + ONE_CALL > cap:
                return
        self._broken(f"{request} was skipped for a budget, and none is short")

    def look(self) -> None:
        """What is reserved and on its way is what attempts hold, after every commit."""
        if not self._is_asked:
            return
        held: Counter[tuple[str, str, bool]] = Counter()
        self._held_before.clear()
        for row in self._oracle.rows("SELECT * FROM budget_holds"):
            billed = row["row_id"] is not None
            held[row["scope"], row["month"], billed] += row["nano_usd"]
            if billed:
                self._look_at_settled(row)
            else:
                self._held_before[row["scope"], row["month"]] += row["nano_usd"]
        for row in self._oracle.rows("SELECT * FROM budget_months"):
            month = (row["scope"], row["month"])
            stands = (row["reserved_nano_usd"], row["billed_nano_usd"])
            attempts = (held.pop((*month, False), 0), held.pop((*month, True), 0))
            if stands != attempts:
                self._broken(f"{month} stands at {stands}, attempts hold {attempts}")
        if held:
            self._broken(f"attempts hold {dict(held)} of no month")

    def _look_at_settled(self, hold: Any) -> None:
        name = (hold["account_id"], hold["request_id"], hold["attempt"], hold["scope"])
        if name in self._settled:
            return
        self._settled.add(name)
        if hold["nano_usd"] > self._reserved[name]:
            self._broken(f"{name} cost {hold['nano_usd']}, reserved {self._reserved[name]}")
        ((spent, billed, reached),) = self._oracle.rows(
            "SELECT spent_nano_usd, billed_nano_usd, reached_at FROM budget_months"
            " WHERE scope = ? AND month = ?",
            hold["scope"],
            hold["month"],
        )
        share = Decimal(str(self._outside.settings.budget_soft_share))
        if spent + billed >= int(hold["cap_nano_usd"] * share) and reached is None:
            self._broken(f"{hold['scope']} is at {spent + billed}: its soft limit was not told")

    def look_at_spent(self) -> None:
        """What is spent is what the ledger says; looked at where rows have arrived there."""
        spent: Counter[Month] = Counter()
        for row in self._oracle.rows("SELECT * FROM ledger WHERE cost_nano_usd != 0"):
            for month in self._months_of(row):
                spent[month] += row["cost_nano_usd"]
        stands = Counter(
            {
                (row["scope"], row["month"]): row["spent_nano_usd"]
                for row in self._oracle.rows("SELECT * FROM budget_months WHERE spent_nano_usd")
            }
        )
        if spent != stands:
            self._broken(f"spent is {dict(stands)}, the ledger has {dict(spent)}")

    def audit(self, events: list[Any]) -> None:
        """Nothing is held when all has drained, and each budget that is reached was told once."""
        for row in self._oracle.rows("SELECT * FROM budget_holds"):
            self._broken(f"{row['request_id']}/{row['attempt']} holds of {row['scope']} for good")
        told = Counter(
            event["data"]["key_id"] or event["data"]["scope"]
            for event in events
            if event["type"] == "byok.budget.reached.v1"
        )
        reached = Counter(
            # An account's next life has another name in the ledger.
            row["scope"].partition(":")[2 if row["scope"].startswith("key:") else 0]
            for row in self._oracle.rows(
                "SELECT scope FROM budget_months WHERE reached_at IS NOT NULL"
            )
        )
        if told != reached:
            self._broken(f"budgets {dict(reached)} are reached, told were {dict(told)}")

    def _broken(self, sentence: str) -> None:
        self._oracle.broken(f"3: {sentence}")
