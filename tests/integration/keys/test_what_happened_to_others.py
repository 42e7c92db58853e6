"""What happened to others (`docs/security.md`) does not happen here: a test for each row.

Each docstring begins with the identifier of what happened.
"""

import hashlib
import hmac
import io
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from events import (
    CustomCategory,
    EventRefused,
    KeyAdded,
    KeyRemoved,
    KeyTested,
    KeyUpdated,
    MailInput,
    Provider,
    ProviderChoice,
    read_event,
)
from events.envelope import wrap
from events.registry import INCOMING
from store import keys, setaside
from store.engine import Database
from store.masterkeys import DoesNotOpen, LocalKeyRing, MasterKeyMissing
from store.schema import data_keys, metadata
from store.vault import Vault
from tests.integration.keys.keeping import byok, command, put_key, stored_key
from tests.leaks import Secret, search
from tests.road import GOOD_OPENAI, SIGNING_KEY, Road
from tests.unit.events.samples import SAMPLES, event
from tests.unit.workers.standins import Clockwork
from workers.app import App
from workers.keys import lifecycle

ROOT = Path(__file__).parents[3]
THEIRS = "http://attacker.invalid/v1"
PRIVATE = "Zq8vTn3LxW5pRk7YmB2cHd9F"
SECRET = Secret("the key", PRIVATE)

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)


def parts_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to every object in a piece of JSON, its own first."""
    if isinstance(value, dict):
        yield path
        for name, inner in value.items():
            yield from parts_of(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from parts_of(inner, (*path, number))


def with_field(data: Any, path: tuple[Any, ...], name: str, value: Any) -> Any:
    """A copy of `data` in which the object at `path` has one more field."""
    changed = deepcopy(data)
    part = changed
    for step in path:
        part = part[step]
    part[name] = value
    return changed


FROM_UPSTREAM = sorted(set(INCOMING) - {"byok.usage.recorded.v1"})
EVERY_PART = [
    pytest.param(kind, path, id=f"{kind.split('.', 1)[1]}:{'/'.join(map(str, path))}")
    for kind in FROM_UPSTREAM
    for path in parts_of(SAMPLES[kind])
]


@pytest.mark.parametrize(("kind", "path"), EVERY_PART)
@pytest.mark.parametrize("name", ["base_url", "api_base", "endpoint", "extra_headers"])
def test_no_part_of_an_event_takes_an_endpoint(kind: str, path: tuple[Any, ...], name: str) -> None:
    """CVE-2024-6587, PYSEC-2026-4070: an endpoint from a user sent the platform's key away."""
    read_event(json.dumps(event(kind)))
    for data in (
        with_field(SAMPLES[kind], path, name, THEIRS),
        with_field(SAMPLES[kind], path, "litellm_params", {name: THEIRS}),
    ):
        with pytest.raises(EventRefused) as caught:
            read_event(json.dumps(event(kind, data)))
        assert caught.value.reason == "invalid_event"
        assert THEIRS not in caught.value.sentence


def test_no_sealed_mail_takes_an_endpoint() -> None:
    """CVE-2024-6587: nor does what is sealed, whose fields no envelope shows."""
    for fields in ({"base_url": THEIRS}, {"headers": {"base_url": THEIRS}}):
        with pytest.raises(ValueError, match="base_url"):
            MailInput.model_validate({"text": "Hi", **fields})


@one_road
def test_a_model_that_is_an_address_is_only_a_name(road: Road) -> None:
    """CVE-2024-6587: what a request may choose freely, its model, chooses no host."""
    road.account()
    road.give_key()
    for provider in (ProviderChoice.OPENAI, ProviderChoice.ANTHROPIC):
        request = road.ended(road.ask(provider=provider, model=THEIRS))
        # It went to the one endpoint that the operator set, which knows no such model.
        assert (request.state, request.reason) == ("failed", "model_unavailable")
    models = [call["body"]["model"] for call in road.sandbox.record() if call["body"]]
    assert models == [THEIRS, THEIRS]


@one_road
def test_a_key_is_shown_by_its_last_four_characters_and_nothing_else(road: Road) -> None:
    """CVE-2024-9606: a mask that let too much through."""
    pasted = f"sk-proj-sandbox-good-not-a-real-key-{PRIVATE}"
    road.account()
    key_id = road.give_key(pasted)
    shown = command(road.app, "keys", "show", "acme", "--json")
    history = command(road.app, "keys", "history", "acme", "--json")
    assert shown["keys"][0]["last4"] == PRIVATE[-4:]
    told = json.dumps([shown, history, road.out_events("key.status_changed")])
    assert key_id in told
    # Five in a row of it, its public beginning among them, are nowhere.
    assert [
        pasted[at : at + 5] for at in range(len(pasted) - 4) if pasted[at : at + 5] in told
    ] == []


@pytest.mark.parametrize(
    ("pasted", "shown"), [("sk-12", ""), ("sk-" + "z" * 12, ""), ("sk-" + "z" * 17, "zzzz")]
)
def test_of_a_short_key_not_even_four_characters_are_shown(
    app: App, pasted: str, shown: str
) -> None:
    """CVE-2024-9606: four characters of a short one would be most of it."""
    assert keys.last4_of(pasted) == shown


@one_road
def test_a_key_that_an_answer_repeats_is_in_no_error_no_row_and_no_health_page(
    road: Road, capfd: pytest.CaptureFixture[str]
) -> None:
    """CVE-2025-0330, CVE-2025-11203, litellm #31620 and #8075: keys in parsing errors, in a health
    page, in audit rows and in spend rows."""
    pasted = f"sk-proj-sandbox-none-not-a-real-key-{PRIVATE}"
    for fault in ("malformed", "html", "invalid"):
        road.account(fault)
        road.give_key(pasted, fault)
        road.sandbox.fault(fault, key=pasted)
        road.ask(fault, provider=ProviderChoice.OPENAI)
        key_id = road.give_key(pasted, fault, replaces=True, settled=False)
        road.until(
            lambda key_id=key_id: (
                (k := road.key(key_id))  # type: ignore[misc]  # bound now
                and (k.status != "pending" or k.validation_failures > 0)
            )
        )
        road.sandbox.clear_faults()
    road.settled_ledger()
    places = {
        f"row of {table.name}": "\n".join(map(str, rows_of(road.app.database, table))).encode()
        for table in metadata.sorted_tables
    }
    places["doctor"] = str(byok(road.app, "doctor", "--json")).encode()
    places["history"] = str(command(road.app, "keys", "history", "html", "--json")).encode()
    out, err = capfd.readouterr()
    places["logs"] = (out + err).encode()
    assert places["row of key_history"]
    assert not (hits := search(places, [SECRET])), hits


def rows_of(database: Database, table: Any) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(select(table)))


@one_road
def test_an_error_that_holds_a_key_leaves_a_reason_and_encrypted_bytes(
    road: Road, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """GHSA-vrv8-j27g-g7cr: decrypted secrets were kept in execution errors."""
    pasted = f"sk-proj-sandbox-none-not-a-real-key-{PRIVATE}"

    def fails(_provider: Provider, opened: str) -> Any:
        raise RuntimeError(f"cannot work with {opened}")

    monkeypatch.setattr(lifecycle, "check_shape", fails)
    road.account()
    road.give_key(pasted, settled=False)

    def kept() -> list[setaside.SetAside]:
        with road.app.database.read() as connection:
            return setaside.newest(connection)

    road.until(kept)
    (item,) = kept()
    assert item.reason == "internal_error"
    told = command(road.app, "failed", "show", item.id, "--json")
    assert told["bytes"] > 0
    out, err = capfd.readouterr()
    places = {
        "row": str(rows_of(road.app.database, metadata.tables["set_aside"])).encode(),
        "shown": str(told).encode(),
        "logs": (out + err).encode(),
        "events": str(road.out_events("event.rejected")).encode(),
    }
    assert not (hits := search(places, [SECRET])), hits
    # Not even what was kept to be retried has it readable: it is the sealed message.
    with road.app.database.read() as connection:
        payload = setaside.payload(connection, road.app.vault, item.id)
    assert not search({"payload": payload}, [SECRET])


def test_a_stolen_database_opens_nothing(database: Database) -> None:
    """CVE-2026-42208: whoever read the database had the keys, within 36 hours."""
    ring = {"t1": b"\x01" * 32}
    vault = Vault(LocalKeyRing(ring), Clockwork().random_bytes)
    put_key(database, vault, "key-1", secret=f"sk-proj-fake-{PRIVATE}")
    with database.write() as connection:
        vault.encrypt(connection, "acme", "input:req-1", PRIVATE.encode(), 0)
        fingerprint = vault.fingerprint(connection, f"sk-proj-fake-{PRIVATE}", 0)
    stored = stored_key(database, "key-1")
    everything = {
        table.name: b"|".join(
            bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
            for row in rows_of(database, table)
            for value in row
        )
        for table in metadata.sorted_tables
    }
    assert not search(everything, [SECRET])
    thief = Vault(LocalKeyRing({"t1": b"\x09" * 32}), Clockwork().random_bytes)
    with pytest.raises(DoesNotOpen):
        thief.open_key(stored, account="acme", provider="openai", key_id="key-1")
    with pytest.raises(MasterKeyMissing):
        Vault(LocalKeyRing({"t2": b"\x01" * 32}), Clockwork().random_bytes).open_key(
            stored, account="acme", provider="openai", key_id="key-1"
        )
    # A guessed key cannot be looked for either: what its fingerprint is made with is wrapped.
    with database.read() as connection:
        wrapped = connection.execute(select(data_keys.c.wrapped_key)).scalars().all()
    guess = f"sk-proj-fake-{PRIVATE}".encode()
    guesses = {hashlib.sha256(guess).digest(), *(hmac.digest(w, guess, "sha256") for w in wrapped)}
    assert fingerprint not in guesses
    assert vault.open_key(stored, account="acme", provider="openai", key_id="key-1").endswith(
        PRIVATE
    )


def test_a_fingerprint_is_of_the_whole_key_and_of_this_store(database: Database) -> None:
    """CVE-2026-35030: a cache key of `token[:20]` let one user in as another."""
    clock = Clockwork()
    vault = Vault(LocalKeyRing({"t1": b"\x01" * 32}), clock.random_bytes)
    long = "sk-proj-" + "a" * 150
    given = [long + end for end in ("", "b", "c", "\u0063c")] + [long[:20], "sk-ant-" + long]
    with database.write() as connection:
        made = {vault.fingerprint(connection, key, 0) for key in given}
        assert len(made) == len(given)
        assert {len(fingerprint) for fingerprint in made} == {32}
        assert vault.fingerprint(connection, long, 0) in made
        # Another store's data key makes another fingerprint of the same key.
        connection.execute(data_keys.delete())
        assert vault.fingerprint(connection, long, 0) not in made


@pytest.mark.parametrize(
    ("kind", "path"),
    [(kind, path) for kind in FROM_UPSTREAM for path in parts_of(SAMPLES[kind])],
)
@pytest.mark.parametrize("name", ["account", "account_id", "tenant_id", "credential_id", "subject"])
def test_no_part_of_an_event_names_another_account_or_credential(
    kind: str, path: tuple[Any, ...], name: str
) -> None:
    """CVE-2026-54307, CVE-2025-64504: credential ids in nested data skipped the check, and a tenant
    that a client sent was believed."""
    data = with_field(SAMPLES[kind], path, name, {"id": "victim"})
    with pytest.raises(EventRefused) as caught:
        read_event(json.dumps(event(kind, data)))
    assert caught.value.reason == "invalid_event"


@one_road
def test_an_account_that_was_changed_on_the_way_is_not_believed(road: Road) -> None:
    """CVE-2025-64504: the account is what its source signed, not what the message says."""
    road.account()
    key_id = road.give_key()
    before = road.key(key_id)
    signed = json.loads(
        wrap(
            KeyTested(key_id=key_id),
            event_id="evt-moved",
            source=road.settings.source,
            time=datetime.now(UTC),
            account="thief",
            sign=SIGNING_KEY.sign,
        ).to_json()
    )
    road.app.publisher.resend("keys", json.dumps(signed | {"subject": "acme"}).encode())
    road.until(lambda: road.out_events("event.rejected"))
    (rejected,) = road.out_events("event.rejected")
    assert rejected["data"]["reason"] == "bad_signature"
    assert road.key(key_id) == before


@one_road
def test_another_accounts_key_can_be_named_and_nothing_comes_of_it(road: Road) -> None:
    """CVE-2026-54305: one tenant took over another's credential."""
    road.account()
    road.account("thief")
    key_id = road.give_key()
    before = road.key(key_id)
    sealed = road.sealed_key(GOOD_OPENAI, "thief", Provider.OPENAI, key_id)
    tries = [
        KeyAdded(revision=90, provider=Provider.OPENAI, key_id=key_id, sealed_key=sealed),
        KeyUpdated(revision=91, key_id=key_id, allow_platform_fallback=True),
        KeyTested(key_id=key_id),
        KeyRemoved(revision=92, provider=Provider.OPENAI, key_id=key_id),
    ]
    for data in tries:
        road.publish(data, "thief")
    road.until(lambda: len(road.out_events("event.rejected")) == len(tries))
    reasons = {told["data"]["reason"] for told in road.out_events("event.rejected")}
    assert reasons == {"key_id_taken"}
    assert road.key(key_id) == before
    # And no request of theirs is paid with it.
    request = road.ended(road.ask("thief"), "thief")
    assert (request.credential, request.key_id) == ("platform", None)


TEMPLATES = (
    *("{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{0.__class__.__mro__}", "%(x)s", "%s%n"),
    *("{categories}", "{mail}", "__import__('os').system('id')", "$(id)", "`id`", "\\1\\g<0>"),
    *("(a+)+$", "*", "[", "(?P<x"),
)
"""What a template engine, a format string, a shell or a regular expression would act on."""


@one_road
def test_what_an_account_writes_of_its_categories_reaches_the_model_as_it_is(road: Road) -> None:
    """CVE-2025-68613: what a user wrote was evaluated."""
    own = CustomCategory(
        type="category",
        key="own",
        display_name="{{7*7}}",
        description=" ".join(TEMPLATES),
        definition_prompt=" ".join(TEMPLATES),
        keywords=TEMPLATES,
        sender_patterns=TEMPLATES,
        positive_examples=TEMPLATES,
        negative_examples=TEMPLATES,
    )
    road.account(custom_categories=(own,))
    mail = MailInput.model_validate(
        {"from": "a" * 300 + "!@example.org", "subject": "a" * 300, "text": "{{7*7}} ${7*7}"}
    )
    assert road.ended(road.ask(mail=mail)).state == "completed"
    (call,) = [c for c in road.sandbox.record() if c["endpoint"] == "completion"]
    sent = "\n".join(message["content"] for message in call["body"]["messages"])
    # As JSON has it within the question, so that nothing of it ends a line or a fence.
    for template in TEMPLATES:
        told = json.dumps(template)[1:-1]
        shown = {told, told.replace("<", "\\u003c").replace(">", "\\u003e")}
        assert any(form in sent for form in shown), template
    assert "49" not in sent


REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z0-9,_-]+\])?==\S+")


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-dev.lock", "requirements-image.lock"]
)
def test_every_package_is_pinned_by_its_hashes(lock: str) -> None:
    """litellm 1.82.7: a released package was replaced by one that steals."""
    whole = (ROOT / lock).read_text().replace("\\\n", " ")
    lines = [
        line for line in whole.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    assert len(lines) > 40
    for line in lines:
        assert REQUIREMENT.match(line), line[:60]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line[:60]
        assert "://" not in line, line[:60]


def test_nothing_is_installed_without_its_hash() -> None:
    """litellm 1.82.7: pins count only where they are asked for."""
    for path in (ROOT / "Makefile", *(ROOT / "deploy").rglob("*Dockerfile*")):
        for line in io.StringIO(path.read_text().replace("\\\n", " ")):
            # What comes with our own code (`--no-deps`) has no other source.
            if re.search(r"(pip|\$\(PIP\)) install\b", line) and "--no-deps" not in line:
                assert "--require-hashes" in line, (path.name, line)
