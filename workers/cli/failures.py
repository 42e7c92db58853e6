"""What can go wrong outside of a command, each in the sentence that an operator reads."""

import redis
from sqlalchemy.exc import SQLAlchemyError

from events import BrokerAway, EventRefused, NotClaimed, Refused
from store.engine import is_unavailable
from store.masterkeys import DoesNotOpen, MasterKeyMissing, MasterKeyUnavailable
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


def sentence_for(error: Exception) -> str | None:
    """What to tell of `error`, or `None` where it is a fault of ours."""
    if isinstance(error, _TOLD_BY_THEMSELVES):
        return str(error)
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "Redis cannot be reached: start `byok up`, or check BYOK_REDIS_URL."
    if isinstance(error, SQLAlchemyError) and is_unavailable(error):
        return "The database cannot be reached or is busy: check BYOK_DATABASE_URL."
    return None
