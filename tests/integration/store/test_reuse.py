"""Reuse: for how long, of which results, and of nothing that was erased."""

from dataclasses import replace
from typing import Literal

import pytest
from sqlalchemy import Connection, update

from events import CallUsage, MailInput
from store import accounts, analyses, erasure
from store.analyses import NewRequest, Request
from store.schema import analyses as table
from tests.unit.workers.standins import clockwork_of, stand_in_app
from workers.analyses import reuse, texts
from workers.analyses.ending import Found, finish_completed
from workers.app import App

HOUR = 3600
MAIL = MailInput(subject="Lunch", sender="Ann <ann@example.org>", text="Hi Bob,\nlunch?")
ACCOUNT = accounts.Account(
    account_id="acme",
    revision=1,
    plan="business",
    plan_status="active",
    ai_consent=True,
    credits_limit=1,
    period_start_at=0,
    period_end_at=0,
    timezone="UTC",
)
SAID = {"summary": "Ann asks for lunch."}


def requested(app: App, request_id: str, operation: str = "summarize") -> Request:
    """A request that waits."""
    now = app.effects.now_ms()
    with app.database.write() as connection:
        new = NewRequest(
            account_id="acme",
            request_id=request_id,
            event_id="event",
            digest=b"digest",
            operation=operation,
            provider_wanted="auto",
            model_wanted=None,
            input=b"sealed",
            created_at=now,
            expires_at=now + 1,
        )
        assert analyses.accept(connection, new)
        found = analyses.find(connection, "acme", request_id)
        assert found is not None
        return found


def digest_of(
    app: App, connection: Connection, account: accounts.Account, request: Request, content: bytes
) -> bytes | None:
    """What a result of the request may be reused for, under the account's data key."""
    vault = app.vault.of(connection, account.account_id, app.effects.now_ms())
    return reuse.digest_of(app, vault, account, request, content)


def digest(app: App, request: Request, mail: MailInput = MAIL) -> bytes | None:
    with app.database.write() as connection:
        return digest_of(app, connection, ACCOUNT, request, reuse.content_of(mail))


def answered(app: App, request: Request, by: Literal["model", "reuse"] = "model") -> None:
    """End a request with a summary."""
    kept = digest(app, request) if by == "model" else None
    with app.database.write() as connection:
        finish_completed(
            app,
            connection,
            request,
            Found(signals={}, texts=SAID),
            by=by,
            credential="byok",
            usage=CallUsage(),
            reuse_digest=kept,
        )


def found(app: App, request_id: str = "again") -> Found | None:
    """What answers an identical request now."""
    request = requested(app, f"{request_id}-{app.effects.new_id()}")
    with app.database.write() as connection:
        asked = digest_of(app, connection, ACCOUNT, request, reuse.content_of(MAIL))
        return reuse.earlier(app, connection, request, asked)


def test_a_result_is_reused_for_a_day_and_no_longer(app: App) -> None:
    answered(app, requested(app, "first"))
    again = found(app)
    assert again is not None
    assert (again.reused_from, again.texts, again.signals) == ("first", SAID, {})
    clockwork_of(app).pass_time(24 * HOUR)
    assert found(app) is not None
    clockwork_of(app).pass_time(0.001)
    assert found(app) is None


def test_the_time_is_a_setting_and_0_switches_reuse_off(app: App) -> None:
    answered(app, requested(app, "first"))
    hour = stand_in_app(app.settings.state_dir, app.database, reuse_hours=1)
    clockwork_of(hour).pass_time(HOUR)
    assert found(hour) is not None
    clockwork_of(hour).pass_time(1)
    assert found(hour, "later") is None
    off = stand_in_app(app.settings.state_dir, app.database, reuse_hours=0)
    assert digest(off, requested(off, "off")) is None
    assert found(off, "off") is None


def test_the_newest_of_several_results_is_reused(app: App) -> None:
    for request_id in ("first", "second"):
        answered(app, requested(app, request_id))
        clockwork_of(app).pass_time(1)
    again = found(app)
    assert again is not None
    assert again.reused_from == "second"


def test_a_result_that_was_reused_does_not_prolong_its_own_life(app: App) -> None:
    answered(app, requested(app, "first"))
    clockwork_of(app).pass_time(20 * HOUR)
    answered(app, requested(app, "second"), by="reuse")
    clockwork_of(app).pass_time(5 * HOUR)
    assert found(app) is None


def test_what_was_erased_is_not_reused(app: App) -> None:
    answered(app, requested(app, "first"))
    with app.database.write() as connection:
        erasure.erase_requests(connection, "acme", None)
        row = connection.execute(table.select()).one()
        assert (row.result, row.result_text, row.reuse_digest) == (None, None, None)
    assert found(app) is None


def test_a_text_that_does_not_open_is_no_result_and_is_counted(app: App) -> None:
    answered(app, requested(app, "first"))
    with app.database.write() as connection:
        moved = texts.stored(app, connection, "acme", "another", SAID)
        connection.execute(update(table).values(result_text=moved))
    assert found(app) is None
    counted = {
        one.labels["reason"]: one.value
        for metric in app.instruments.vault_failures.instrument.collect()
        for one in metric.samples
        if one.name.endswith("_total") and one.value
    }
    assert counted == {"DoesNotOpen": 1}


@pytest.mark.parametrize("part", ["subject", "sender", "to", "cc", "text", "html"])
def test_a_mail_that_differs_in_what_is_sent_is_another(part: str) -> None:
    changed = MAIL.model_copy(update={part: f"{getattr(MAIL, part)} more"})
    assert reuse.content_of(changed) != reuse.content_of(MAIL)


def test_a_mail_that_differs_in_white_space_and_in_what_is_not_sent_is_the_same() -> None:
    changes = {
        "subject": " Lunch\u200b ",
        "text": "Hi  Bob,\r\n\r\n\tlunch?\n",
        "date": "now",
        "headers": {"List-Id": "x"},
    }
    assert reuse.content_of(MAIL.model_copy(update=changes)) == reuse.content_of(MAIL)


def test_what_stands_in_one_field_does_not_stand_for_another() -> None:
    swapped = MAIL.model_copy(update={"to": MAIL.cc, "cc": MAIL.to, "html": MAIL.text, "text": ""})
    assert reuse.content_of(swapped) != reuse.content_of(MAIL)
    split = MAIL.model_copy(update={"text": "Hi Bob, lunch?"})
    assert reuse.content_of(split) != reuse.content_of(MAIL)


def test_a_digest_is_of_the_account_the_operation_the_provider_the_model_and_the_categories(
    app: App,
) -> None:
    request = requested(app, "first", operation="classify")
    others = [
        replace(request, operation="reply"),
        replace(request, provider_wanted="openai"),
        replace(request, model_wanted="gpt-unit-1"),
    ]
    digests = {digest(app, one) for one in (request, *others)}
    with app.database.write() as connection:
        content = reuse.content_of(MAIL)
        for account in (
            replace(ACCOUNT, account_id="other"),
            replace(ACCOUNT, custom_categories=({"key": "mine", "confidence_threshold": 60},)),
            replace(ACCOUNT, custom_categories=({"key": "mine", "confidence_threshold": 70},)),
            replace(ACCOUNT, category_overrides=({"key": "work", "enabled": False},)),
        ):
            digests.add(digest_of(app, connection, account, request, content))
    assert len(digests) == 8
