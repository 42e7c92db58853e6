"""What the doctor says of master keys and sealing keys, and when an old one can be dropped."""

from collections import Counter
from collections.abc import Iterable

from events.broker import PublishingBroker
from events.registry import QUEUES
from events.sealing import sealing_keys_named
from store import migrate, setaside, vault, waiting
from store.masterkeys import DoesNotOpen, MasterKeyMissing
from store.rekey import opens
from workers.app import App


def tell_master_keys(app: App) -> str:
    """Which master keys are held, in use, and no longer needed.

    Raises `ValueError` where one is needed and not held, and what `MasterKeys.prove` raises.
    """
    ring = app.master_keys
    for key_id in sorted(ring.ids):
        ring.prove(key_id, app.effects.random_bytes)
    current = ring.current_id
    told = f"{len(ring.ids)} held, current {current}"
    if migrate.missing(app.database):
        return told
    with app.database.read() as connection:
        needed = vault.master_keys_in_use(connection)
        shut = [key_id for key_id in needed & ring.ids if not opens(connection, ring, key_id)]
    if shut:
        raise ValueError(
            f"nothing that is stored under {_listed(shut)} opens: BYOK_MASTER_KEYS has another key "
            "of that id than the one it was stored with; put that one back before workers start"
        )
    if needed - ring.ids:
        raise ValueError(
            f"stored values need {_listed(needed - ring.ids)}, which BYOK_MASTER_KEYS lacks"
        )
    old = ring.ids - {current}
    if old & needed:
        told += f"; {_listed(old & needed)} still needed: run `byok rekey`"
    if old - needed:
        told += (
            f"; {_listed(old - needed)} can be dropped, if no worker runs with an older "
            "BYOK_MASTER_KEYS and no backup is to be restored that needs it"
        )
    return told


def tell_sealing_keys(app: App) -> str:
    """Which sealing keys are held, and which old ones nothing is sealed for any more.

    Raises `ValueError` where the public key that is given is none of them.
    """
    ring = app.settings.sealing_key_ring
    public = app.settings.sealing_public
    if public.key_id not in ring.private:
        raise ValueError("BYOK_SEALING_PUBLIC_KEY is not one of BYOK_SEALING_KEYS")
    told = f"{len(ring.private)} held, current {ring.current.key_id}"
    old = set(ring.private) - {ring.current.key_id, public.key_id}
    if not old or migrate.missing(app.database):
        return told
    used = _sealing_keys_in_store(app)
    queued = _sealing_keys_on_queues(app)
    used.update(queued or ())
    waiting_for = {key_id: used[key_id] for key_id in sorted(old) if used[key_id]}
    if waiting_for:
        told += "; still needed: " + ", ".join(
            f"{key_id} (by {count:,})" for key_id, count in waiting_for.items()
        )
    free = old - set(waiting_for)
    if free and used[_UNKNOWN]:
        told += f"; {used[_UNKNOWN]:,} set-aside messages do not open: look at `byok failed list`"
    elif free and queued is None:
        told += (
            f"; nothing in the store needs {_listed(free)}; what lies on RabbitMQ cannot be told: "
            "drop it when the queues and their .XQ have been empty"
        )
    elif free:
        told += f"; {_listed(free)} can be dropped, if no publisher seals with it any more"
    return told


_UNKNOWN = ""
"""In place of a sealing key's id: a set-aside message that does not open."""


def _sealing_keys_in_store(app: App) -> Counter[str]:
    """How many stored messages are sealed for each key: events that wait, and what is set aside."""
    found: Counter[str] = Counter()
    with app.database.read() as connection:
        for envelope in waiting.envelopes(connection):
            found.update(sealing_keys_named(envelope.encode()))
        for item_id in setaside.ids(connection):
            try:
                found.update(sealing_keys_named(setaside.payload(connection, app.vault, item_id)))
            except (DoesNotOpen, MasterKeyMissing):
                found[_UNKNOWN] += 1
    return found


def _sealing_keys_on_queues(app: App) -> Counter[str] | None:
    """The same for messages on the queues, taken and dead ones too; `None` where nobody can look.

    Raises `BrokerAway`.
    """
    broker = PublishingBroker(app.settings.effective_broker_url, max_connections=2)
    try:
        found: Counter[str] = Counter()
        for queue in QUEUES:
            messages = broker.messages(queue)
            if messages is None:
                return None
            for message in messages:
                found.update(sealing_keys_named(message))
        return found
    finally:
        broker.close()


def _listed(key_ids: Iterable[str]) -> str:
    return ", ".join(sorted(key_ids))
