"""The master keys of a process, as `BYOK_MASTER_KEYS` names them."""

from store.masterkeys import KeyRing, LocalKey, MasterKey
from store.unwrapped import CachedKey, DataKeyCache
from workers.effects import Effects
from workers.settings import ConfigurationError, KmsName, Settings


def open_master_keys(settings: Settings, effects: Effects) -> KeyRing:
    """The ring. Asks nobody: whether a key works is proved by `KeyRing.prove`.

    Raises `ConfigurationError`.
    """
    entries = settings.master_key_ring
    held: dict[str, MasterKey] = {
        key_id: LocalKey(entry) for key_id, entry in entries.items() if isinstance(entry, bytes)
    }
    names = {key_id: entry for key_id, entry in entries.items() if isinstance(entry, KmsName)}
    if names:
        held |= _in_kms(names, settings, effects)
    return KeyRing({key_id: held[key_id] for key_id in entries})


def _in_kms(
    names: dict[str, KmsName], settings: Settings, effects: Effects
) -> dict[str, MasterKey]:
    # Imported where such a key is named: most systems have none, and boto3 is an optional extra.
    from store import kms  # noqa: PLC0415

    try:
        client = kms.open_client()
    except kms.KmsNotUsable as error:
        raise ConfigurationError(str(error)) from None
    cache = DataKeyCache(settings.kms_cache_keys, settings.kms_cache_seconds, effects.monotonic)
    return {
        key_id: CachedKey(key_id, kms.KmsKey(key_id, name, client), cache)
        for key_id, name in names.items()
    }
