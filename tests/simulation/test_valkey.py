"""The stand-in for Valkey answers as the real one does, command by command."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation.valkey import Valkey

NOW = 1_767_268_800_000
NAMES = st.sampled_from("abcd")
NUMBERS = st.integers(-5, 50).map(str)
BOUNDS = st.one_of(NUMBERS, NUMBERS.map("({}".format), st.sampled_from(["-inf", "+inf"]))


def command(name: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    """One command; what its key holds depends on its first letter, so that no kind is wrong."""
    kind = {"h": "hash", "z": "zset", "s": "set", "r": "list", "l": "list"}
    key = "string" if name in ("set", "get", "incr", "incrby", "decr") else kind.get(name[0], "")
    keys = NAMES.map(f"{key}:{{}}".format)
    return st.tuples(st.just(name), keys, *parts)


ANY_KEY = st.tuples(st.sampled_from(["string", "hash", "zset", "set", "list"]), NAMES).map(":".join)
COMMANDS = st.one_of(
    command("set", NUMBERS),
    command("set", NUMBERS, st.just("NX")),
    command("get"),
    command("incr"),
    command("decr"),
    command("incrby", NUMBERS),
    command("hset", NAMES, NUMBERS),
    command("hsetnx", NAMES, NUMBERS),
    command("hget", NAMES),
    command("hmget", NAMES, NAMES),
    command("hdel", NAMES),
    command("hexists", NAMES),
    command("hlen"),
    command("hincrby", NAMES, NUMBERS),
    command("zadd", NUMBERS, NAMES),
    command("zrem", NAMES),
    command("zcard"),
    command("zcount", BOUNDS, BOUNDS),
    command("zrangebyscore", BOUNDS, BOUNDS),
    command("zremrangebyscore", BOUNDS, BOUNDS),
    command("sadd", NAMES),
    command("srem", NAMES),
    command("scard"),
    command("rpush", NUMBERS),
    command("lpop"),
    st.tuples(st.sampled_from(["del", "exists", "pttl"]), ANY_KEY),
)


@pytest.fixture(scope="module")
def real(valkey: str) -> Iterator[redis.Redis]:
    # RESP2, whose replies are what scripts see.
    with redis.Redis.from_url(f"{valkey}?db=0", protocol=2) as client:
        client.response_callbacks.clear()
        yield client


def answered(do: Callable[..., Any], one: tuple[str, ...]) -> Any:
    reply = do(*one)
    return "OK" if reply in (b"OK", True) and one[0] == "set" else reply


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(COMMANDS, min_size=5, max_size=40))
def test_the_stand_in_answers_each_command_as_the_real_one(
    real: redis.Redis, history: list[tuple[str, ...]]
) -> None:
    real.execute_command("flushdb")
    stand_in = Valkey(lambda: NOW)
    for one in history:
        assert answered(stand_in.command, one) == answered(real.execute_command, one), one


def test_a_script_gets_and_gives_what_it_gets_and_gives_from_the_real_one(
    real: redis.Redis,
) -> None:
    script = """
    redis.call('HSET', KEYS[1], 'n', ARGV[1])
    local held = redis.call('HMGET', KEYS[1], 'n', 'none')
    return {held[1], held[2] == false, redis.call('HLEN', KEYS[1]), tonumber(held[1]) * 1.9}
    """
    real.execute_command("flushdb")
    stand_in = Valkey(lambda: NOW)
    assert stand_in.script(script, ["hash:a"], ["7"]) == real.execute_command(
        "EVAL", script, 1, "hash:a", "7"
    )


def test_a_key_ends_when_its_time_is_over() -> None:
    now = [NOW]
    stand_in = Valkey(lambda: now[0])
    stand_in.command("set", "string:a", "1", "PX", "100")
    now[0] += 99
    assert stand_in.command("get", "string:a") == b"1"
    assert stand_in.command("pttl", "string:a") == 1
    now[0] += 1
    assert stand_in.command("get", "string:a") is None
