"""`byok keygen`, `byok db`."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from events.sealing import SealingKeys
from events.signing import SigningKey
from workers.cli.console import AsJson, emit_json, open_app, out
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
        migrate.upgrade(app.database)
    if as_json:
        emit_json({"applied": missing})
    else:
        out.print(
            f"Applied {', '.join(missing)}." if missing else "Nothing to do.", highlight=False
        )


@database.callback()
def _database() -> None:
    # With one command alone typer would make no group of it.
    pass
