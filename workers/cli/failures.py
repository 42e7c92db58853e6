"""What can go wrong outside of a command, each in the sentence that an operator reads."""

import errno

import redis
from sqlalchemy.exc import SQLAlchemyError

from events import BrokerAway, EventRefused, NotClaimed, Refused
from events.broker import redis_refusal
from store.engine import is_unavailable
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable
from store.trouble import trouble
from workers.settings import ConfigurationError
from workers.supervisor import StartFailed

_TOLD_BY_THEMSELVES = (
    ConfigurationError,
    EventRefused,
    StartFailed,
    BrokerAway,
    NotClaimed,
    Refused,
    DoesNotOpen,
    MasterKeyMissing,
    MasterKeyUnavailable,
)

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def sentence_for(error: Exception) -> str | None:
    """What to tell of `error`, or `None` where it is a fault of ours."""
    if isinstance(error, _TOLD_BY_THEMSELVES):
        return str(error)
    if isinstance(error, redis.RedisError):
        return _of_redis(error)
    if isinstance(error, SQLAlchemyError):
        return _of_the_database(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"The output cannot be written ({error.strerror})."
    return None


def _of_redis(error: redis.RedisError) -> str | None:
    refusal = redis_refusal(error, "BYOK_BROKER_URL and BYOK_REDIS_URL")
    if refusal is not None:
        return f"Redis {refusal[0]}: {refusal[1]}."
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "Redis cannot be reached: start `byok up`, or check BYOK_REDIS_URL."
    return None


def _of_the_database(error: SQLAlchemyError) -> str | None:
    found = trouble(error)
    if found is not None:
        return f"The database cannot be used, because {found[0]}: {found[1]}."
    if is_unavailable(error):
        return "The database cannot be reached or is busy: check BYOK_DATABASE_URL."
    return None
