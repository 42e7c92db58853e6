"""What each user of Redis may do, and what it is refused."""

from typing import Any

import pytest
import redis

from events.stream import STREAM

Command = tuple[Any, ...]

ALLOWED: dict[str, list[Command]] = {
    "worker": [
        ("LPUSH", "byok:keys", "1"),
        ("XADD", STREAM, "*", "event", "{}"),
        ("BGREWRITEAOF",),
        ("INFO",),
        ("EVAL", "return redis.call('keys', 'byok:__acks__*')", 0),
    ],
    "publisher": [
        ("HSET", "byok:keys.msgs", "1", "{}"),
        ("RPUSH", "byok:keys", "1"),
        ("LLEN", "byok:analyses"),
        ("BLPOP", "byok:claims:nobody", 0.01),
    ],
    "subscriber": [
        ("XGROUP", "CREATE", STREAM, "mailers", "0", "MKSTREAM"),
        ("XREADGROUP", "GROUP", "mailers", "me", "COUNT", 1, "STREAMS", STREAM, ">"),
        ("XACK", STREAM, "mailers", "1-1"),
    ],
    "reader": [("LLEN", "byok:keys"), ("INFO",), ("HLEN", "byok:keys.msgs")],
}

REFUSED: dict[str, list[Command]] = {
    "worker": [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("SHUTDOWN",),
        ("ACL", "LIST"),
        ("SCRIPT", "FLUSH"),
        ("GET", "others:key"),
        ("REPLICAOF", "nowhere", 1),
        ("MONITOR",),
    ],
    "publisher": [
        ("LPOP", "byok:keys"),
        ("BLPOP", "byok:keys", 0.01),
        ("LRANGE", "byok:keys", 0, -1),
        ("HGET", "byok:keys.msgs", "1"),
        ("HGETALL", "byok:keys.msgs"),
        ("DEL", "byok:keys"),
        ("RPUSH", "byok:usage", "1"),
        ("RPUSH", "byok:validations", "1"),
        ("XADD", STREAM, "*", "event", "{}"),
        ("XRANGE", STREAM, "-", "+"),
        ("RPUSH", "byok:claims:another", "claimed"),
        ("EVAL", "return redis.call('lpop', KEYS[1])", 1, "byok:keys"),
        ("EVAL", "return redis.call('hgetall', 'byok:keys.msgs')", 0),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
    ],
    "subscriber": [
        ("XADD", STREAM, "*", "event", "{}"),
        ("XTRIM", STREAM, "MAXLEN", 0),
        ("DEL", STREAM),
        ("LLEN", "byok:keys"),
        ("XGROUP", "DESTROY", STREAM, "mailers"),
        ("BLPOP", "byok:claims:another", 0.01),
    ],
    "reader": [
        ("DEL", "byok:keys"),
        ("LPOP", "byok:keys"),
        ("HSET", "byok:keys.msgs", "1", "{}"),
        ("EVAL", "return redis.call('del', 'byok:keys')", 0),
        ("GET", "others:key"),
        ("CONFIG", "GET", "*"),
    ],
}


def test_each_user_may_do_its_work_and_nothing_beside(users: dict[str, str]) -> None:
    for user, commands in ALLOWED.items():
        with redis.Redis.from_url(users[user]) as client:
            for command in commands:
                client.execute_command(*command)
    for user, commands in REFUSED.items():
        with redis.Redis.from_url(users[user]) as client:
            for command in commands:
                assert refused(client, command), f"{user} may: {command}"


def refused(client: redis.Redis, command: Command) -> bool:
    """Whether the server refuses a command for want of a right."""
    try:
        client.execute_command(*command)
    except redis.ResponseError as error:
        return "permission" in str(error)
    return False


def test_a_user_without_its_password_is_refused(users: dict[str, str]) -> None:
    wrong = users["worker"].replace("not-a-real-password", "guessed")
    with (
        redis.Redis.from_url(wrong) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
