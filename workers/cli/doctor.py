"""`byok doctor`: every dependency looked at, and what to do about what is not well."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from events import Operation, Provider
from events.broker import BrokerAway, PublishingBroker, redis_refusal, redis_trouble
from store import budgets, leases, migrate, retention
from store.masterkeys import MasterKeyMissing, MasterKeyUnavailable
from store.trouble import trouble
from workers.app import App
from workers.budgets import USED_UP, budget_states
from workers.cli.console import AsJson, emit_json, open_app, refuse, show, table
from workers.cli.oldkeys import tell_master_keys, tell_sealing_keys
from workers.cli.pause import described_pauses
from workers.cli.reach import Reached, reach
from workers.retention import DAY_MS, kept_since
from workers.settings import ConfigurationError, misspelt

_TOLD_BY: dict[str, Callable[[Exception], tuple[str, str] | None]] = {
    "broker": lambda error: (
        (error.what, error.do) if isinstance(error, BrokerAway) else _refused(error, "BROKER")
    ),
    "redis": lambda error: _refused(error, "REDIS"),
    "database": trouble,
}
"""Parts whose errors tell more than that they are away. What depends on them does not repeat it."""

MOST_SKEW_SECONDS = 1.0
"""Leases last 10 s and heartbeats 15: clocks that differ by this much still leave both right."""


LEAST_FREE_BYTES = 100_000_000
"""For an embedded queue or database: an append-only file is written anew beside the old one."""

LEAST_FREE_FOR_METRICS_BYTES = 4_000_000
"""Without them, as in a pod that is given 64 MiB of memory for it: what a process counts takes some
hundred kB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the doctor found of one part, and what to do where it is not well."""

    part: str
    ok: bool
    told: str
    advice: str = ""


class NotWell(Exception):
    """A part is not as it has to be: what is wrong, and what to do about it."""

    def __init__(self, told: str, advice: str) -> None:
        super().__init__(told)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Check:
    """How a part is looked at, and what to do where it cannot be reached."""

    part: str
    look: Callable[[App], str]
    advice: str


def doctor(*, as_json: AsJson = False) -> None:
    """Check every dependency and say what to do. Example: `byok doctor`."""
    with open_app(need_store=False) as app:
        findings = [_look(check, app) for check in _CHECKS]
    if as_json:
        emit_json(
            {
                "ok": all(finding.ok for finding in findings),
                "checks": [
                    {"part": f.part, "ok": f.ok, "detail": f.told, "do": f.advice or None}
                    for f in findings
                ],
            }
        )
    else:
        shown = table("Doctor", "part", "", "detail")
        for finding in findings:
            mark = "[green]ok[/green]" if finding.ok else "[red]not ok[/red]"
            told = f"{finding.told}\n→ {finding.advice}" if finding.advice else finding.told
            shown.add_row(finding.part, mark, told)
        show(shown)
    bad = [finding.part for finding in findings if not finding.ok]
    if bad:
        refuse(f"Not well: {', '.join(bad)}.")


def _look(check: Check, app: App) -> Finding:
    try:
        return Finding(check.part, ok=True, told=check.look(app))
    except NotWell as error:
        return Finding(check.part, ok=False, told=str(error), advice=error.advice)
    except (ConfigurationError, ValueError, MasterKeyMissing, MasterKeyUnavailable) as error:
        # These sentences say themselves what to do.
        return Finding(check.part, ok=False, told=str(error))
    except (BrokerAway, redis.RedisError, SQLAlchemyError, OSError) as error:
        if check.part in _TOLD_BY and (found := _TOLD_BY[check.part](error)) is not None:
            return Finding(check.part, ok=False, told=found[0], advice=found[1])
        told = f"cannot be reached ({type(error).__name__})"
        return Finding(check.part, ok=False, told=told, advice=check.advice)


def _settings(app: App) -> str:
    del app
    wrong = misspelt()
    if wrong:
        raise NotWell(
            f"{', '.join(wrong)}: there is no setting of that name",
            f"did you mean {', '.join(wrong.values())}?",
        )
    return "no variable is misspelt"


def _state_dir(app: App) -> str:
    where = app.settings.state_dir
    if not where.exists():
        if app.settings.embedded:
            raise NotWell(f"there is none at {where}", "start `byok up`, or check BYOK_STATE_DIR")
        return f"none at {where}: no role has run here"
    if not where.is_dir():
        raise NotWell(f"{where} is no directory", "name one in BYOK_STATE_DIR")
    if not os.access(where, os.W_OK | os.X_OK):
        raise NotWell(f"{where} cannot be written", "check who owns it, and its disk")
    free = shutil.disk_usage(where).free
    embedded = app.settings.embedded_valkey or app.settings.database_url is None
    if free < (LEAST_FREE_BYTES if embedded else LEAST_FREE_FOR_METRICS_BYTES):
        raise NotWell(
            f"{free // 1_000_000:,} MB are free on the disk of {where}", "make room there"
        )
    return f"{where}, {free / 1e9:,.1f} GB free"


def _refused(error: Exception, what: str) -> tuple[str, str] | None:
    return redis_refusal(error, f"BYOK_{what}_URL")


def _broker(app: App) -> str:
    broker = PublishingBroker(app.settings.effective_broker_url, max_connections=2)
    try:
        return broker.ping()
    finally:
        broker.close()


def _redis(app: App) -> str:
    info: dict[str, Any] = app.stream.info()
    found = redis_trouble(info, "BYOK_REDIS_URL")
    if found is not None:
        raise NotWell(*found)
    policy = info.get("maxmemory_policy")
    if policy != "noeviction" and int(info.get("maxmemory", 0)):
        raise NotWell(
            f"evicts keys when full (maxmemory-policy {policy}), messages among them",
            "set maxmemory-policy to noeviction",
        )
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


def _sources(app: App) -> str:
    if app.sources is None:
        return "embedded: events need no signature"
    names = sorted(app.settings.sources.by_name)
    if not names:
        raise NotWell(
            "BYOK_PUBLISHERS names nobody, so every event is refused",
            "name the sources and their keys: see `byok keygen signing`",
        )
    return f"{', '.join(names)} may publish"


def _clock(app: App) -> str:
    seconds, micros = app.stream.time()
    clocks = {"Redis": seconds * 1000 + micros // 1000}
    if not app.database.is_sqlite:
        with app.database.read() as connection:
            asked = text("SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint")
            clocks["the database"] = connection.execute(asked).scalar_one()
    skews = {name: abs(app.effects.now_ms() - at) / 1000 for name, at in clocks.items()}
    worst = max(skews, key=lambda name: skews[name])
    if skews[worst] > MOST_SKEW_SECONDS:
        raise NotWell(
            f"differs from that of {worst} by {skews[worst]:.1f} s",
            "synchronise the clocks (chrony or systemd-timesyncd on each machine)",
        )
    return f"within {skews[worst]:.3f} s of that of {worst}"


def _database(app: App) -> str:
    with app.database.read() as connection:
        connection.execute(text("SELECT 1"))
    return app.database.url.get_backend_name()


def _migrations(app: App) -> str:
    missing = migrate.missing(app.database)
    if missing:
        raise NotWell(f"the database lacks {', '.join(missing)}", "run `byok db upgrade`")
    newer = migrate.newer(app.database)
    told = f"all {len(migrate.revisions())} are applied"
    return told if newer is None else f"{told}, and a newer version's up to {newer}"


def _roles(app: App) -> str:
    with app.database.read() as connection:
        live = leases.live_roles(connection, app.effects.now_ms())
    if not live.get("worker") or not live.get("scheduler"):
        raise NotWell(
            "no worker or no scheduler is running",
            "start `byok up`, or `byok worker` and `byok scheduler`",
        )
    return ", ".join(f"{count} {role}" for role, count in sorted(live.items()))


def _pauses(app: App) -> str:
    told = [
        f"{one['kind']} {one['name']} since {one['since'][:16]} by {one['by']}"
        + (f" ({one['note']})" if one["note"] else "")
        + f", {one['requests_waiting']:,} requests wait"
        for one in described_pauses(app)
    ]
    return "; ".join(told) if told else "nothing is paused"


def _budgets(app: App) -> str:
    with app.database.read() as connection:
        found = budget_states(app, connection, app.effects.now_ms())
    others = ", ".join(
        f"{count:,} of {scope}s {state.replace('_', ' ')}"
        for (scope, state), count in sorted(found.states.items())
        if scope != budgets.PLATFORM
    )
    cap = app.settings.platform_budget_usd
    if cap is None:
        return f"the platform has none{'; ' + others if others else ''}"
    told = f"{found.platform_share:.0%} of the platform's ${cap:,.2f} are used in this month"
    if found.platform_state == USED_UP:
        raise NotWell(
            f"{told}: analyses on platform credits are skipped",
            "raise BYOK_PLATFORM_BUDGET_USD, or wait for the next month (UTC)",
        )
    return f"{told}{'; ' + others if others else ''}"


def _retention(app: App) -> str:
    since = kept_since(app)
    with app.database.read() as connection:
        oldest = retention.oldest(connection)
    late = {kind: since[kind] - at for kind, at in oldest.items() if at < since[kind] - DAY_MS}
    if late:
        kind = max(late, key=lambda name: late[name])
        raise NotWell(
            f"{kind.replace('_', ' ')} are kept {late[kind] / DAY_MS:.0f} days too long",
            "start `byok scheduler`; if one runs, look at its log for `sweep_failed`",
        )
    return "nothing is kept longer than the settings say"


def _provider(provider: Provider) -> Callable[[App], str]:
    def check(app: App) -> str:
        variable = f"{provider.value.upper()}_BASE_URL"
        found = reach(app, provider)
        name = "sandbox, " if app.settings.uses_sandbox(provider) else ""
        told = f"{name}{found.where}, model {_models(app, provider)}"
        match found.reached:
            case Reached.NO_ANSWER:
                raise NotWell(
                    f"{found.where} does not answer: {found.told}",
                    f"check the network, the proxy and {variable}; requests wait meanwhile",
                )
            case Reached.KEY_REFUSED:
                raise NotWell(
                    f"{told}: the platform's key is refused ({found.told})",
                    f"give a key that works as BYOK_PLATFORM_{provider.value.upper()}_KEY",
                )
            case Reached.KEY_WORKS:
                return f"{told}: answers, and the platform's key works"
            case _:
                return f"{told}: answers; without a platform key"

    return check


def _models(app: App, provider: Provider) -> str:
    """The model of the provider, and those of the operations that have another."""
    usual = app.settings.model(provider)
    own = {operation: app.settings.model(provider, operation) for operation in Operation}
    return ", ".join(
        (usual, *(f"{name}: {model}" for name, model in own.items() if model != usual))
    )


_CHECKS = (
    Check("settings", _settings, ""),
    Check("state directory", _state_dir, "check BYOK_STATE_DIR"),
    Check("broker", _broker, "start `byok up`, or check BYOK_BROKER_URL and that it runs"),
    Check("redis", _redis, "start `byok up`, or check BYOK_REDIS_URL and that it runs"),
    Check("clock", _clock, "mend Redis and the database first"),
    Check("database", _database, "start `byok up`, or check BYOK_DATABASE_URL and that it runs"),
    Check("migrations", _migrations, "mend the database first"),
    Check("master keys", tell_master_keys, "mend the database first"),
    Check("sealing keys", tell_sealing_keys, "mend broker and database first"),
    Check("publishers", _sources, ""),
    Check("roles", _roles, "mend the database first"),
    Check("pauses", _pauses, "mend the database first"),
    Check("budgets", _budgets, "mend the database first"),
    Check("retention", _retention, "mend the database first"),
    *(Check(provider.value, _provider(provider), "") for provider in Provider),
)
