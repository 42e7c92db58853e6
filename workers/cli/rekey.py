"""`byok rekey`: every data key under the current master key, while the workers go on."""

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from store import rekey as rotation
from store import vault
from workers.app import App
from workers.cli.console import AsJson, emit_json, err, open_app, out, refuse


def rekey(*, as_json: AsJson = False) -> None:
    """Wrap all data keys under the first of BYOK_MASTER_KEYS. Example: `byok rekey`.

    Put the new key first, keep the old one, restart the workers, then run this; afterwards the old
    key can be dropped. Workers continue meanwhile. Run it again if it is interrupted.
    """
    with open_app() as app:
        current = app.master_keys.current_id
        _require_all(app)
        # Before anything is put under it: what it cannot unwrap would be out of reach.
        app.master_keys.prove(current, app.effects.random_bytes)
        with app.database.read() as connection:
            before = rotation.left(connection, current)
        with _progress(silent=as_json) as progress:
            task = progress.add_task("", total=before)
            done = rotation.rotate(
                app.database, app.vault, current, lambda n: progress.advance(task, n)
            )
        with app.database.read() as connection:
            old = sorted(app.master_keys.ids - vault.master_keys_in_use(connection) - {current})
    if as_json:
        emit_json(
            {
                "current": current,
                "rewrapped": done.rewrapped,
                "unreadable": done.unreadable,
                "left": done.left,
                "droppable": old,
            }
        )
    else:
        out.print(f"{done.rewrapped:,} data keys were put under {current}.", highlight=False)
        if old:
            out.print(f"No data key needs {', '.join(old)} any more.", highlight=False)
    if done.unreadable:
        refuse(
            f"{done.unreadable:,} data keys do not open under the master key that they name, and "
            "were left: they were altered, or that key is another one under the same id."
        )
    if done.left:
        refuse(
            f"{done.left:,} data keys were written under another master key meanwhile: restart the "
            "workers with this BYOK_MASTER_KEYS, then run `byok rekey` again."
        )


def _require_all(app: App) -> None:
    with app.database.read() as connection:
        missing = sorted(vault.master_keys_in_use(connection) - app.master_keys.ids)
    if missing:
        refuse(
            f"Stored values need {', '.join(missing)}, which BYOK_MASTER_KEYS lacks: add it after "
            "the new key, and run this again."
        )


def _progress(*, silent: bool) -> Progress:
    return Progress(
        TextColumn("Wrapping data keys anew"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=silent or not err.is_terminal,
    )
