"""`byok doctor`: every dependency looked at, and what to do about what is not well."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from sqlalchemy.exc import SQLAlchemyError

from events import Operation, Provider
from events.broker import BrokerAway, PublishingBroker
from store import leases, migrate
from store.masterkeys import MasterKeyMissing, MasterKeyUnavailable
from workers.app import App
from workers.cli.console import AsJson, emit_json, open_app, refuse, show, table
from workers.cli.oldkeys import tell_master_keys, tell_sealing_keys
from workers.settings import ConfigurationError


@dataclass(frozen=True, slots=True)
class Finding:
    """What the doctor found of one part."""

    part: str
    ok: bool
    told: str


def doctor(*, as_json: AsJson = False) -> None:
    """Check every dependency and say what to do. Example: `byok doctor`."""
    with open_app(need_store=False) as app:
        findings = [_look(name, check, app) for name, check in _CHECKS.items()]
    if as_json:
        emit_json(
            {
                "ok": all(finding.ok for finding in findings),
                "checks": [{"part": f.part, "ok": f.ok, "detail": f.told} for f in findings],
            }
        )
    else:
        shown = table("Doctor", "part", "", "detail")
        for finding in findings:
            mark = "[green]ok[/green]" if finding.ok else "[red]not ok[/red]"
            shown.add_row(finding.part, mark, finding.told)
        show(shown)
    bad = [finding.part for finding in findings if not finding.ok]
    if bad:
        refuse(f"Not well: {', '.join(bad)}.")


def _look(part: str, check: Callable[[App], str], app: App) -> Finding:
    try:
        return Finding(part, ok=True, told=check(app))
    except (ConfigurationError, ValueError, MasterKeyMissing, MasterKeyUnavailable) as error:
        return Finding(part, ok=False, told=str(error))
    except (BrokerAway, redis.RedisError, SQLAlchemyError, OSError) as error:
        return Finding(part, ok=False, told=f"cannot be reached ({type(error).__name__})")


def _broker(app: App) -> str:
    broker = PublishingBroker(app.settings.effective_broker_url, max_connections=2)
    try:
        return broker.ping()
    finally:
        broker.close()


def _redis(app: App) -> str:
    info: dict[str, Any] = app.stream.info()
    policy = info.get("maxmemory_policy")
    if policy != "noeviction" and int(info.get("maxmemory", 0)):
        raise ValueError(f"evicts keys when full (maxmemory-policy {policy}): set it to noeviction")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


def _sources(app: App) -> str:
    if app.sources is None:
        return "embedded: events need no signature"
    names = sorted(app.settings.sources.by_name)
    if not names:
        raise ValueError("BYOK_PUBLISHERS names nobody, so every event is refused")
    return f"{', '.join(names)} may publish"


def _clock(app: App) -> str:
    seconds, micros = app.stream.time()
    skew = abs(app.effects.now_ms() - (seconds * 1000 + micros // 1000)) / 1000
    if skew > 1:
        raise ValueError(f"differs from that of Redis by {skew:.1f} s: synchronise the clocks")
    return f"within {skew:.3f} s of that of Redis"


def _database_check(app: App) -> str:
    missing = migrate.missing(app.database)
    if missing:
        raise ValueError(f"lacks the migrations {', '.join(missing)}: run `byok db upgrade`")
    return f"{app.database.url.get_backend_name()}, schema up to date"


def _roles(app: App) -> str:
    with app.database.read() as connection:
        live = leases.live_roles(connection, app.effects.now_ms())
    if not live.get("worker") or not live.get("scheduler"):
        raise ValueError("no worker or no scheduler is running: start `byok up`")
    return ", ".join(f"{count} {role}" for role, count in sorted(live.items()))


def _provider(provider: Provider) -> Callable[[App], str]:
    def check(app: App) -> str:
        where = app.settings.base_url(provider) or "the provider's own endpoint"
        name = "sandbox, " if app.settings.uses_sandbox(provider) else ""
        platform = "with" if app.settings.platform_key(provider) else "without"
        return f"{name}{where}, {platform} a platform key, model {_models(app, provider)}"

    return check


def _models(app: App, provider: Provider) -> str:
    """The model of the provider, and those of the operations that have another."""
    usual = app.settings.model(provider)
    own = {operation: app.settings.model(provider, operation) for operation in Operation}
    return ", ".join(
        (usual, *(f"{name}: {model}" for name, model in own.items() if model != usual))
    )


_CHECKS: dict[str, Callable[[App], str]] = {
    "broker": _broker,
    "redis": _redis,
    "clock": _clock,
    "database": _database_check,
    "master keys": tell_master_keys,
    "sealing keys": tell_sealing_keys,
    "publishers": _sources,
    "roles": _roles,
    **{provider.value: _provider(provider) for provider in Provider},
}
