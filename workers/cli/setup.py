"""`byok keygen`, `byok db`."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from events.sealing import SealingKeys
from events.signing import SigningKey
from workers.cli.console import AsJson, emit_json, err, open_app, out, refuse
from workers.settings import new_named_key

database = typer.Typer(no_args_is_help=True, help="The database's schema.")


class KeyKind(StrEnum):
    """What `byok keygen` makes."""

    MASTER = "master"
    SEALING = "sealing"
    SIGNING = "signing"


def keygen(
    kind: Annotated[KeyKind, typer.Argument(help="master, sealing or signing.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it as the variables that take it.

    Example: `byok keygen sealing`. A sealing key's public half is for the publishers; a signing
    key stays with one publisher, and what is printed for BYOK_PUBLISHERS goes to the workers.
    """
    made = new_named_key(kind.value)
    if kind is KeyKind.SIGNING:
        public = SigningKey.parse(made).public
        publishers = {"byok/cli": {"keys": [public], "types": ["byok.*"]}}
        lines = {
            "BYOK_SOURCE": "byok/cli",
            "BYOK_SIGNING_KEY": made,
            "BYOK_PUBLISHERS": json.dumps(publishers),
        }
    else:
        lines = {f"BYOK_{kind.upper()}_KEYS": made}
    if kind is KeyKind.SEALING:
        lines["BYOK_SEALING_PUBLIC_KEY"] = str(SealingKeys.parse(made).current)
    if as_json:
        emit_json(lines)
    else:
        for name, value in lines.items():
            out.print(f"{name}={value}", highlight=False, soft_wrap=True)


@database.command()
def upgrade(*, as_json: AsJson = False) -> None:
    """Bring the database to this version's schema. Example: `byok db upgrade`."""
    from store import migrate  # noqa: PLC0415 -- `keygen` needs no store

    with open_app(need_store=False) as app:
        app.settings.prepare_state_dir()
        missing = migrate.missing(app.database)
        newer = migrate.newer(app.database)
        if newer is None:
            migrate.upgrade(app.database)
        else:
            # A step back to an older version runs this, too: its schema is there, and more.
            err.print(
                f"A newer version has brought the database to {newer}, and this one works on it: "
                "it is left as it is.",
                highlight=False,
            )
    if as_json:
        emit_json({"applied": missing})
    else:
        out.print(
            f"Applied {', '.join(missing)}." if missing else "Nothing to do.", highlight=False
        )


@database.command()
def restored(*, as_json: AsJson = False) -> None:
    """Mark the database as restored from a backup. Example: `byok db restored`.

    Run it before any process starts. Consent is off and keys are held until upstream has published
    their current state; requests that had not ended fail as `restored`, so that nothing is paid for
    twice.
    """
    from workers.restored import ProcessesRun, take_over  # noqa: PLC0415 -- as above

    with open_app() as app:
        try:
            done = take_over(app)
        except ProcessesRun:
            refuse("Processes are running on this database: stop them all, then run this again.")
    told = {
        "at": datetime.fromtimestamp(done.at / 1000, tz=UTC).isoformat(),
        "consents_off": done.consents_off,
        "keys_held": done.keys_held,
        "requests_ended": done.requests_ended,
    }
    if as_json:
        emit_json(told)
    else:
        out.print(
            f"Consent is off for {done.consents_off:,} accounts, {done.keys_held:,} keys are held, "
            f"{done.requests_ended:,} requests ended. Have upstream publish the current state of "
            "each account and key, then start the processes.",
            highlight=False,
        )
