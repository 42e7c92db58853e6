"""`byok keys`: what an account's owner does with a key, done by hand."""

import getpass
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from events import KeyAdded, KeyRemoved, KeyReplaced, KeyTested, Provider, seal_key
from store import accounts
from store import keys as stored_keys
from store.keys import KeyRecord
from workers.app import App
from workers.cli.account import (
    AccountArgument,
    BudgetOption,
    next_revision,
    read_budget,
    require_account,
)
from workers.cli.console import (
    AsJson,
    Timeout,
    Wait,
    emit_json,
    open_app,
    out,
    refuse,
    show,
    table,
    wait_for,
)

commands = typer.Typer(no_args_is_help=True, help="An account's provider keys.")

ProviderArgument = Annotated[Provider, typer.Argument(help="openai or anthropic.")]
AllowFallback = Annotated[
    bool, typer.Option("--allow-fallback", help="Let the platform stand in when the key fails.")
]
LONGEST_KEY = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """The settings that a key is given with."""

    allow_fallback: bool = False
    budget_usd: Decimal | None = None


@commands.command()
def add(
    account: AccountArgument,
    provider: ProviderArgument,
    *,
    allow_fallback: AllowFallback = False,
    budget: BudgetOption = None,
    wait: Wait = False,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Connect a key, typed at a hidden prompt or piped in; prints the key's id.

    Example: `byok keys add acme openai --wait < key.txt`.
    """
    asked = KeySettings(allow_fallback=allow_fallback, budget_usd=read_budget(budget))
    _give(KeyAdded, account, provider, asked, wait=wait, timeout=timeout, as_json=as_json)


@commands.command()
def replace(
    account: AccountArgument,
    provider: ProviderArgument,
    *,
    allow_fallback: AllowFallback = False,
    budget: BudgetOption = None,
    wait: Wait = False,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Swap in a new key, under a new id. Example: `byok keys replace acme openai --wait`."""
    asked = KeySettings(allow_fallback=allow_fallback, budget_usd=read_budget(budget))
    _give(KeyReplaced, account, provider, asked, wait=wait, timeout=timeout, as_json=as_json)


@commands.command()
def test(
    account: AccountArgument,
    provider: ProviderArgument,
    *,
    wait: Wait = False,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Have a key validated again. Example: `byok keys test acme openai --wait`."""
    with open_app() as app:
        key = _require_key(app, account, provider)
        app.publisher.publish(KeyTested(key_id=key.key_id), account=account)
        if wait:

            def validated() -> bool:
                now = _find(app, key.key_id)
                # A provider that is away gives no verdict, but the failure is counted.
                return now.validation_no > key.validation_no and (
                    now.tested_at != key.tested_at
                    or now.validation_failures != key.validation_failures
                )

            wait_for(app, "the validation", timeout, validated)
        _tell(app, account, key.key_id, in_full=wait, as_json=as_json)


@commands.command()
def remove(
    account: AccountArgument,
    provider: ProviderArgument,
    *,
    wait: Wait = False,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Remove a key: what is stored of it is destroyed. Example: `byok keys remove acme openai`."""
    with open_app() as app:
        key = _require_key(app, account, provider)
        app.publisher.publish(
            KeyRemoved(revision=next_revision(app, account), provider=provider, key_id=key.key_id),
            account=account,
        )
        if wait:
            wait_for(
                app,
                "the removal",
                timeout,
                lambda: _find(app, key.key_id).removed_at is not None,
            )
        _tell(app, account, key.key_id, in_full=False, as_json=as_json)


@commands.command("show")
def show_keys(
    account: AccountArgument,
    provider: Annotated[Provider | None, typer.Argument(help="openai or anthropic.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show an account's keys. Example: `byok keys show acme --json`."""
    with open_app() as app:
        require_account(app, account)
        shown = [
            key
            for key in described_keys(app, account)
            if provider is None or key["provider"] == provider
        ]
        if as_json:
            emit_json({"account": account, "keys": shown})
        else:
            show(keys_table(f"Keys of {account}", shown))


@commands.command()
def history(account: AccountArgument, *, as_json: AsJson = False) -> None:
    """Show what changed an account's keys, and when. Example: `byok keys history acme --json`."""
    with open_app() as app:
        with app.database.read() as connection:
            changes = stored_keys.history(connection, account)
        if not changes:
            require_account(app, account)
    described = [
        {
            "at": _iso(change.at),
            "key_id": change.key_id,
            "old": change.old_status,
            "new": change.new_status,
            "reason": change.reason,
            "cause": change.cause,
            "event_id": change.event_id or None,
            "source": change.source,
        }
        for change in changes
    ]
    if as_json:
        emit_json({"account": account, "changes": described})
        return
    made = table(
        f"History of the keys of {account}", "when", "key id", "from", "to", "reason", "by"
    )
    for change in described:
        made.add_row(
            _short(change["at"]),
            change["key_id"],
            change["old"] or "",
            change["new"],
            change["reason"],
            f"{change['cause']} ({change['source']})",
        )
    show(made)


def keys_table(title: str, described: list[dict[str, Any]]) -> Any:
    """A table of keys as `described_keys` gives them."""
    made = table(
        title, "provider", "status", "reason", "key", "key id", "added", "last tested", ">requests"
    )
    colours = {"valid": "green", "pending": "yellow", "invalid": "red"}
    for key in described:
        colour = colours.get(key["status"], "white")
        made.add_row(
            key["provider"],
            f"[{colour}]{key['status'].capitalize()}[/{colour}]",
            key["reason"] if key["unusable_reason"] != "plan" else "plan without BYOK",
            f"…{key['last4']}" if key["last4"] else "not kept",
            key["key_id"],
            _short(key["added_at"]),
            _short(key["tested_at"]),
            str(key["requests"]),
        )
    return made


def described_keys(app: App, account: str) -> list[dict[str, Any]]:
    """The account's keys, as `keys show --json` tells them."""
    with app.database.read() as connection:
        active = stored_keys.active(connection, account)
    return [_described(app, key) for _, key in sorted(active.items())]


def give_key(
    app: App,
    kind: type[KeyAdded | KeyReplaced],
    account: str,
    provider: Provider,
    pasted: str,
    asked: KeySettings,
) -> str:
    """Seal a key and publish it; its new id."""
    key_id = f"key_{app.effects.new_id()}"
    app.publisher.publish(
        kind(
            revision=next_revision(app, account),
            provider=provider,
            key_id=key_id,
            sealed_key=seal_key(
                pasted,
                app.settings.sealing_public,
                account=account,
                provider=provider,
                key_id=key_id,
            ),
            allow_platform_fallback=asked.allow_fallback,
            budget_usd=asked.budget_usd,
        ),
        account=account,
    )
    return key_id


def is_settled(app: App, key_id: str) -> bool:
    """Whether a key that was given has its verdict."""
    with app.database.read() as connection:
        key = stored_keys.find(connection, key_id)
    return key is not None and key.status != "pending"


def _give(
    kind: type[KeyAdded | KeyReplaced],
    account: str,
    provider: Provider,
    asked: KeySettings,
    *,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    with open_app() as app:
        known = require_account(app, account)
        pasted = _read_key(provider)
        key_id = give_key(app, kind, account, provider, pasted, asked)
        if not app.includes_byok(known.plan, known.plan_status):
            typer.echo(
                f"The plan {known.plan!r} does not include BYOK: the key is kept and not used "
                "until the account upgrades.",
                err=True,
            )
        if wait:
            wait_for(app, "the key's verdict", timeout, lambda: is_settled(app, key_id))
        _tell(app, account, key_id, in_full=wait, as_json=as_json)


def _read_key(provider: Provider) -> str:
    if sys.stdin.isatty():
        pasted = getpass.getpass(f"{provider.value} key (not shown): ")
    else:
        try:
            pasted = sys.stdin.read(LONGEST_KEY + 1)
            # By some locales bytes that are no text come through, and could not be sealed.
            pasted.encode()
        except UnicodeError:
            refuse("What was given is not text: that is no key.")
    if not pasted.strip():
        refuse("No key was given: type it at the prompt, or pipe it in.")
    if len(pasted) > LONGEST_KEY:
        refuse(f"What was given is longer than {LONGEST_KEY:,} characters: that is no key.")
    return pasted


def _tell(app: App, account: str, key_id: str, *, in_full: bool, as_json: bool) -> None:
    if as_json:
        if in_full:
            emit_json(_described(app, _find(app, key_id)))
        else:
            emit_json({"account": account, "key_id": key_id})
        return
    out.print(key_id, highlight=False, soft_wrap=True)
    if in_full:
        show(keys_table("", [_described(app, _find(app, key_id))]))


def _require_key(app: App, account: str, provider: Provider) -> KeyRecord:
    require_account(app, account)
    with app.database.read() as connection:
        key = stored_keys.active(connection, account).get(provider.value)
    if key is None:
        refuse(
            f"The account {account!r} has no {provider.value} key: "
            f"run `byok keys add {account} {provider.value}`."
        )
    return key


def _find(app: App, key_id: str) -> KeyRecord:
    with app.database.read() as connection:
        key = stored_keys.find(connection, key_id)
    if key is None:
        refuse(f"The key {key_id} is not in the store yet.")
    return key


def _described(app: App, key: KeyRecord) -> dict[str, Any]:
    reason = _why_unused(app, key)
    return {
        "key_id": key.key_id,
        "provider": key.provider,
        "status": key.status,
        "reason": key.reason,
        "last4": key.last4,
        "added_at": _iso(key.added_at),
        "tested_at": _iso(key.tested_at),
        "requests": key.requests,
        "allow_platform_fallback": key.allow_platform_fallback,
        "usable": reason is None,
        "unusable_reason": reason,
    }


def _why_unused(app: App, key: KeyRecord) -> str | None:
    """Why no request is paid with this key now, or `None`: the plan first, then the key's state."""
    with app.database.read() as connection:
        account = accounts.find(connection, key.account_id)
    if account is None or not app.includes_byok(account.plan, account.plan_status):
        return "plan"
    if key.status != "valid":
        return key.status
    if key.suspect_at is not None:
        return "in_doubt"
    return "no_quota" if key.reason == "no_quota" else None


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat()


def _short(moment: str | None) -> str:
    return "never" if moment is None else moment[:16].replace("T", " ")
