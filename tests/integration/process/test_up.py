"""`byok up` in one shell and the other commands from others, as an operator uses them."""

import csv
import io
import json
import secrets
import sys
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import TypeAdapter

from events.sealing import SealingKeys, SealingPublicKey
from tests.integration.process.bill import (
    Books,
    assert_counted_once,
    assert_credits_are_settled,
    assert_the_ledger_is_the_bill,
    totals,
)
from tests.integration.process.running import MAILS, SOON, Up, until
from workers.cli.output import OUTPUTS

GOOD = "sk-proj-sandbox-good-not-a-real-key-0001"
INVALID = "sk-ant-api03-sandbox-invalid-not-a-real-key-0002"
TERMINAL = ("completed", "failed", "skipped")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An account that had all shipped mails analysed on its own key, and some on the platform."""

    account: str
    pasted: dict[str, str]
    added: dict[str, Any]
    own: list[dict[str, Any]]
    platform: list[dict[str, Any]]

    @property
    def completed(self) -> list[dict[str, Any]]:
        return [line for line in (*self.own, *self.platform) if line["state"] == "completed"]

    @property
    def by_model(self) -> list[dict[str, Any]]:
        return [line for line in self.completed if line["by"] == "model"]


@pytest.fixture(scope="module")
def mailbox(up: Up) -> Mailbox:
    up.json("account", "set", "acme", "--plan", "business", "--consent", "--credits", "100")
    added = up.add_key("acme", "openai", GOOD)
    mail = MAILS / "easy-ham-1-00386.eml"
    return Mailbox(
        account="acme",
        pasted={added["key_id"]: GOOD},
        added=added,
        own=up.analyze("acme", MAILS, "--wait"),
        platform=up.analyze("acme", mail, "--provider", "anthropic", "--wait"),
    )


@pytest.fixture(scope="module")
def usage(up: Up, mailbox: Mailbox) -> dict[str, Any]:
    up.await_outbox()
    return up.json("usage", mailbox.account)


def test_up_says_ready_on_stderr_and_its_one_object_on_stdout(up: Up) -> None:
    assert "ready" in up.stderr.read_text().splitlines()
    told = json.loads(up.stdout.read_text())
    TypeAdapter(OUTPUTS["up"]).validate_python(told)
    assert (told["role"], told["pid"]) == ("up", up.process.pid)
    assert told["metrics"] == (up.state_dir / "exporter.url").read_text().strip()


def test_a_good_key_from_stdin_gets_an_id_and_ends_valid(mailbox: Mailbox) -> None:
    added = mailbox.added
    assert added["key_id"].startswith("key_")
    assert (added["provider"], added["status"], added["reason"]) == ("openai", "valid", "ok")
    assert (added["last4"], added["requests"]) == (GOOD[-4:], 0)
    assert added["tested_at"] >= added["added_at"]
    assert added["allow_platform_fallback"] is False


def test_a_bad_key_ends_invalid_with_its_reason(up: Up, mailbox: Mailbox) -> None:
    up.road.account("bad-key")
    key = up.add_key("bad-key", "anthropic", INVALID)
    assert (key["status"], key["reason"]) == ("invalid", "rejected")
    assert up.json("keys", "show", "bad-key")["keys"] == [key]


def test_each_mail_of_a_directory_gives_one_line_in_a_terminal_state(mailbox: Mailbox) -> None:
    assert [line["file"] for line in mailbox.own] == sorted(f.name for f in MAILS.glob("*.eml"))
    assert {line["state"] for line in mailbox.own} <= set(TERMINAL)
    assert len({line["request_id"] for line in mailbox.own}) == len(mailbox.own)
    for line in mailbox.by_model:
        assert line["result"]["category"]
        assert (line["attempts"], line["prompt_version"]) == (1, "classify-1")
        assert line["fallback_reason"] is None
        assert line["credential"] == ("byok" if line in mailbox.own else "platform")
    by_rules = [line for line in mailbox.completed if line["by"] == "rules"]
    assert by_rules, "none of the shipped mails is answered by rules"
    for line in by_rules:
        assert (line["credential"], line["key_id"]) == ("none", None)
        assert (line["usage"]["cost_nano_usd"], line["usage"]["input_tokens"]) == (0, 0)


def test_the_usage_card_adds_up_to_the_lines(usage: dict[str, Any], mailbox: Mailbox) -> None:
    by_model = mailbox.by_model
    counts = Counter(line["credential"] for line in by_model)
    providers = Counter(line["provider"] for line in by_model)
    spent = totals(
        (line["usage"] for line in by_model), "input_tokens", "output_tokens", "cost_nano_usd"
    )
    assert (usage["account"], usage["days"]) == ("acme", 30)
    assert usage["operations"] == len(mailbox.completed)
    assert usage["tokens"] == spent["input_tokens"] + spent["output_tokens"]
    assert Decimal(usage["total_cost_usd"]) == Decimal(spent["cost_nano_usd"]) / 10**9 > 0
    assert usage["byok_share"] == pytest.approx(counts["byok"] / counts.total())
    assert 0 < usage["byok_share"] < 1
    assert usage["provider_distribution"] == {
        name: pytest.approx(count / providers.total()) for name, count in providers.items()
    }
    assert sum(usage["provider_distribution"].values()) == pytest.approx(1)
    days = usage["by_day"]
    assert len(days) == 30
    assert sum(day["operations"] for day in days) == usage["operations"]
    assert sum(day["byok_operations"] for day in days) == counts["byok"]
    assert sum(day["platform_operations"] for day in days) == counts["platform"]
    assert sum(day["tokens"] for day in days) == usage["tokens"]
    assert sum(Decimal(day["cost_usd"]) for day in days) == Decimal(usage["total_cost_usd"])


def test_the_csv_reads_back_as_the_card(up: Up, usage: dict[str, Any]) -> None:
    done = up.byok("usage", "acme", "--csv")
    assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["date"] for row in rows] == [day["date"] for day in usage["by_day"]]
    assert sum(int(row["operations"]) for row in rows) == usage["operations"]
    assert sum(int(row["tokens"]) for row in rows) == usage["tokens"]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(usage["total_cost_usd"])


def test_the_page_is_written_where_it_is_wanted(
    up: Up, usage: dict[str, Any], tmp_path: Path
) -> None:
    done = up.byok("usage", "acme", "--html", str(tmp_path / "usage.html"))
    assert (done.code, done.out) == (0, "")
    assert f"<dd>{usage['operations']:,}</dd>" in (tmp_path / "usage.html").read_text()
    refused = up.byok("usage", "acme", "--html", str(tmp_path / "nowhere" / "usage.html"))
    assert refused.code == 1
    assert "cannot be written" in refused.err


def test_a_budget_by_command_skips_is_kept_and_the_books_still_match(up: Up) -> None:
    mail = MAILS / "easy-ham-1-00386.eml"
    named = ("account", "set", "capped", "--plan", "business")
    up.json(*named, "--consent", "--credits", "5", "--budget", "0")
    (line,) = up.analyze("capped", mail, "--wait")
    assert (line["state"], line["reason"]) == ("skipped", "budget")
    assert up.json(*named, "--timezone", "Asia/Tokyo")["budget_usd"] == "0"
    assert up.json(*named, "--budget", "none")["budget_usd"] is None
    assert up.byok(*named, "--budget", "-1").code == 2
    up.await_outbox()
    assert up.json("usage", "audit")["ok"]


def test_the_ledger_equals_the_sandboxs_bill_to_the_token(up: Up, mailbox: Mailbox) -> None:
    books = Books.of(up)
    assert books.billed
    assert not books.unknown
    assert_the_ledger_is_the_bill(books, mailbox.pasted)
    assert_counted_once(books)
    assert_credits_are_settled(up, "acme")
    sums = ("input_tokens", "cached_read_tokens", "cache_write_tokens", "output_tokens")
    assert totals(up.sandbox.bill(), *sums) == totals(
        ({name: getattr(row, name) for name in sums} for row in books.billed), *sums
    )


def test_a_keys_own_row_counts_the_requests_that_it_handled(
    up: Up, mailbox: Mailbox, usage: dict[str, Any]
) -> None:
    handled = sum(1 for line in mailbox.own if line["by"] == "model")
    shown = up.json("keys", "show", "acme", "openai")
    assert shown["account"] == "acme"
    (key,) = shown["keys"]
    assert (key["key_id"], key["requests"]) == (mailbox.added["key_id"], handled)


def test_a_key_is_tested_again_and_removed(up: Up) -> None:
    up.road.account("tidy")
    added = up.add_key("tidy", "openai", f"{GOOD}-tidy")
    tested = up.json("keys", "test", "tidy", "openai", "--wait")
    assert (tested["key_id"], tested["status"]) == (added["key_id"], "valid")
    assert tested["tested_at"] > added["tested_at"]
    removed = up.json("keys", "remove", "tidy", "openai", "--wait")
    assert removed == {"account": "tidy", "key_id": added["key_id"]}
    again = up.byok("keys", "test", "tidy", "openai")
    assert (again.code, again.out) == (1, "")
    assert "has no openai key" in again.err


def test_without_json_the_key_id_is_the_first_line(up: Up) -> None:
    up.road.account("plain")
    done = up.byok("keys", "add", "plain", "openai", "--wait", stdin=f"{GOOD}-plain\n")
    assert done.code == 0
    key_id = done.out.splitlines()[0]
    key = up.road.key(key_id)
    assert key is not None
    assert (key.account_id, key.status) == ("plain", "valid")


def test_an_account_is_shown_with_its_credits(up: Up, mailbox: Mailbox) -> None:
    shown = up.json("account", "show", "acme")
    assert (shown["account"], shown["plan"], shown["ai_consent"]) == ("acme", "business", True)
    assert (shown["credits"], shown["credits_used"], shown["credits_reserved"]) == (100, 1, 0)
    changed = up.json("account", "set", "acme", "--plan", "pro", "--no-consent")
    assert (changed["plan"], changed["ai_consent"], changed["credits"]) == ("pro", False, 100)
    skipped = up.road.ended(up.road.ask("acme"))
    assert (skipped.state, skipped.reason) == ("skipped", "consent")


def test_the_doctor_finds_everything_well(up: Up) -> None:
    found = up.json("doctor")
    assert found["ok"] is True
    assert {check["part"] for check in found["checks"]} >= {"broker", "database", "roles"}


@pytest.mark.parametrize("role", ["worker", "scheduler", "exporter"])
def test_each_role_is_alive_and_ready(up: Up, role: str) -> None:
    for asked in ([], ["--ready"]):
        told = up.json("healthcheck", role, *asked)
        assert told["ok"] is True
        assert [one["pid"] for one in told["processes"]] == [up.child(role).pid]


def test_the_database_needs_no_upgrade(up: Up) -> None:
    done = up.byok("db", "upgrade")
    assert (done.code, done.out.strip()) == (0, "Nothing to do.")


def test_keygen_makes_keys_that_the_settings_take(up: Up) -> None:
    made = up.json("keygen", "sealing")
    keys = SealingKeys.parse(made["BYOK_SEALING_KEYS"])
    assert keys.current == SealingPublicKey.parse(made["BYOK_SEALING_PUBLIC_KEY"])
    master = up.byok("keygen", "master")
    assert (master.code, master.out.count("\n")) == (0, 1)
    assert master.out.startswith("BYOK_MASTER_KEYS=")


def test_what_was_set_aside_is_listed_and_shown(up: Up) -> None:
    mark = secrets.token_hex(8)
    message = json.dumps({"mark": mark})
    up.queue.hset("byok:keys.msgs", mark, message)
    up.queue.rpush("byok:keys", mark)
    up.await_queues()
    listed = up.byok("failed", "list", "--json")
    assert listed.code == 0
    (item,) = listed.objects
    assert (item["queue"], item["reason"]) == ("keys", "not_a_message")
    shown = up.json("failed", "show", item["id"])
    assert shown == item | {"bytes": len(message)}
    unknown = up.byok("failed", "show", "nothing")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="psutil tells limits on Linux alone")
def test_no_process_that_holds_keys_leaves_a_core_dump(up: Up) -> None:
    for role in ("worker", "scheduler", "exporter"):
        assert up.child(role).rlimit(psutil.RLIMIT_CORE) == (1, 1), role


# From here on the tests end the `byok up` of this module, and start it again.


def test_a_second_up_on_the_same_directory_is_refused_in_one_sentence(up: Up) -> None:
    before = {process.pid for process in up.processes()}
    second = up.byok("up")
    assert (second.code, second.out) == (1, "")
    assert second.err.count("\n") == 1
    assert "already runs under" in second.err
    assert {process.pid for process in up.processes()} == before
    up.road.account("undisturbed")


def test_sigterm_finishes_the_calls_under_way_and_ends_every_process(up: Up) -> None:
    up.road.account("term")
    up.sandbox.gate(closed=True)
    asked = [up.road.ask("term") for _ in range(2)]
    up.sandbox.wait_in_flight(2)
    drained = up.logged("worker_draining")
    up.process.terminate()
    until(lambda: up.logged("worker_draining") > drained, "the worker drains")
    up.sandbox.gate(closed=False)
    assert up.ended() == 0
    assert up.processes() == []
    up.start()
    ended = [up.road.ended(request_id, "term") for request_id in asked]
    assert [(request.state, request.attempt) for request in ended] == [("completed", 1)] * 2


def test_after_sigkill_no_process_is_left_and_the_next_up_has_the_data(up: Up) -> None:
    up.road.account("kill")
    up.road.give_key(f"{GOOD}-kill", "kill")
    assert up.road.ended(up.road.ask("kill"), "kill").state == "completed"
    up.await_outbox()
    before = up.json("keys", "show", "kill")["keys"][0]
    assert (before["status"], before["requests"]) == ("valid", 1)
    up.sandbox.gate(closed=True)
    under_way = up.road.ask("kill")
    up.sandbox.wait_in_flight(1)
    up.process.kill()
    up.ended()
    until(lambda: not up.processes(), "no process is left", SOON)
    up.start()
    assert up.road.ended(under_way, "kill").state == "completed"
    up.await_outbox()
    assert up.json("keys", "show", "kill")["keys"][0] == before | {"requests": 2}
    (line,) = up.analyze("kill", MAILS / "easy-ham-1-00386.eml", "--wait")
    assert (line["state"], line["credential"]) == ("completed", "byok")
    up.await_outbox()
    assert up.json("usage", "kill")["operations"] == 3
