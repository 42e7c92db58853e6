"""An in-memory stand-in for Valkey whose time is the simulation's, and that runs our own scripts.

The pacing's Lua runs as it is, in a Lua of the version that Valkey embeds; what stands in is the
handful of commands below. A command that is not among them fails loudly. A test holds it against
the real one (`test_valkey.py`).
"""

import fnmatch
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from lupa.lua51 import LuaRuntime

Value = Any


class Valkey:
    """Keys and values. `now` gives the server's time in Unix ms."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._data: dict[str, Any] = {}
        self._expires: dict[str, int] = {}

    def flush(self, keep: Sequence[str] = ()) -> None:
        """Come back empty, but for `keep`."""
        for key in [key for key in self._data if key not in keep]:
            self._drop(key)

    def command(self, name: str, *arguments: Any) -> Value:
        """Run one command. Replies are as in RESP: bytes, integers, lists, `None`."""
        for key in [key for key, at in self._expires.items() if at <= self._now()]:
            self._drop(key)
        do = getattr(self, f"_do_{name.lower()}", None)
        if do is None:
            raise NotImplementedError(f"the stand-in has no {name}: add it")
        return do(*(_text(argument) for argument in arguments))

    def script(self, text: str, keys: Sequence[Any], arguments: Sequence[Any]) -> Value:
        """Run a script as `EVAL` does."""
        runtime, run = _compiled(text)
        runtime.globals()["redis"]["call"] = lambda name, *rest: _to_lua(
            runtime, self.command(name, *rest)
        )
        runtime.globals()["KEYS"] = runtime.table_from([_text(key) for key in keys])
        runtime.globals()["ARGV"] = runtime.table_from([_text(one) for one in arguments])
        return _from_lua(run())

    def _drop(self, key: str) -> int:
        self._expires.pop(key, None)
        return int(self._data.pop(key, None) is not None)

    def _of(self, key: str, kind: type) -> Any:
        return self._data.setdefault(key, kind())

    def _tidy(self, key: str) -> None:
        if key in self._data and not self._data[key]:
            self._drop(key)

    def _do_time(self) -> Value:
        seconds, milliseconds = divmod(self._now(), 1000)
        return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]

    def _do_get(self, key: str) -> Value:
        return _bytes(self._data.get(key))

    def _do_set(self, key: str, value: str, *options: str) -> Value:
        names = [option.lower() for option in options]
        if "nx" in names and key in self._data:
            return None
        self._data[key] = value
        self._expires.pop(key, None)
        for name, unit in (("px", 1), ("ex", 1000)):
            if name in names:
                self._expires[key] = self._now() + unit * int(options[names.index(name) + 1])
        return b"OK"

    def _do_incrby(self, key: str, by: str) -> Value:
        self._data[key] = str(int(self._data.get(key, "0")) + int(by))
        return int(self._data[key])

    def _do_incr(self, key: str) -> Value:
        return self._do_incrby(key, "1")

    def _do_decr(self, key: str) -> Value:
        return self._do_incrby(key, "-1")

    def _do_del(self, *keys: str) -> Value:
        return sum(self._drop(key) for key in keys)

    def _do_exists(self, *keys: str) -> Value:
        return sum(key in self._data for key in keys)

    def _do_keys(self, pattern: str) -> Value:
        return [key.encode() for key in self._data if fnmatch.fnmatchcase(key, pattern)]

    def _do_pexpire(self, key: str, milliseconds: str) -> Value:
        if key not in self._data:
            return 0
        self._expires[key] = self._now() + int(milliseconds)
        return 1

    def _do_expire(self, key: str, seconds: str) -> Value:
        return self._do_pexpire(key, str(1000 * int(seconds)))

    def _do_pttl(self, key: str) -> Value:
        if key not in self._data:
            return -2
        return self._expires[key] - self._now() if key in self._expires else -1

    def _do_hget(self, key: str, field: str) -> Value:
        return _bytes(self._data.get(key, {}).get(field))

    def _do_hmget(self, key: str, *fields: str) -> Value:
        return [self._do_hget(key, field) for field in fields]

    def _do_hgetall(self, key: str) -> Value:
        return [_bytes(part) for pair in self._data.get(key, {}).items() for part in pair]

    def _do_hset(self, key: str, *pairs: str) -> Value:
        held = self._of(key, dict)
        new = sum(field not in held for field in pairs[::2])
        held.update(zip(pairs[::2], pairs[1::2], strict=True))
        return new

    def _do_hsetnx(self, key: str, field: str, value: str) -> Value:
        return 0 if field in self._data.get(key, {}) else self._do_hset(key, field, value)

    def _do_hdel(self, key: str, *fields: str) -> Value:
        held = self._data.get(key, {})
        gone = sum(held.pop(field, None) is not None for field in fields)
        self._tidy(key)
        return gone

    def _do_hexists(self, key: str, field: str) -> Value:
        return int(field in self._data.get(key, {}))

    def _do_hlen(self, key: str) -> Value:
        return len(self._data.get(key, {}))

    def _do_hincrby(self, key: str, field: str, by: str) -> Value:
        held = self._of(key, dict)
        held[field] = str(int(held.get(field, "0")) + int(by))
        return int(held[field])

    def _do_zadd(self, key: str, *pairs: str) -> Value:
        held = self._of(key, dict)
        new = sum(member not in held for member in pairs[1::2])
        held.update({m: float(s) for s, m in zip(pairs[::2], pairs[1::2], strict=True)})
        return new

    def _do_zrem(self, key: str, *members: str) -> Value:
        return self._do_hdel(key, *members)

    def _do_zcard(self, key: str) -> Value:
        return self._do_hlen(key)

    def _do_zscore(self, key: str, member: str) -> Value:
        score = self._data.get(key, {}).get(member)
        return None if score is None else f"{score:.17g}".encode()

    def _within(self, key: str, low: str, high: str) -> list[str]:
        def fits(score: float) -> bool:
            above = score > float(low[1:]) if low.startswith("(") else score >= float(low)
            below = score < float(high[1:]) if high.startswith("(") else score <= float(high)
            return above and below

        held = self._data.get(key, {})
        return [m for m, s in sorted(held.items(), key=lambda i: (i[1], i[0])) if fits(s)]

    def _do_zremrangebyscore(self, key: str, low: str, high: str) -> Value:
        return self._do_zrem(key, *self._within(key, low, high))

    def _do_zcount(self, key: str, low: str, high: str) -> Value:
        return len(self._within(key, low, high))

    def _do_zrangebyscore(self, key: str, low: str, high: str) -> Value:
        return [member.encode() for member in self._within(key, low, high)]

    def _do_rpush(self, key: str, *values: str) -> Value:
        held = self._of(key, list)
        held.extend(values)
        return len(held)

    def _do_lpop(self, key: str) -> Value:
        held = self._data.get(key)
        if not held:
            return None
        value = held.pop(0)
        self._tidy(key)
        return _bytes(value)

    def _do_sadd(self, key: str, *members: str) -> Value:
        return self._do_hset(key, *(part for member in members for part in (member, "")))

    def _do_srem(self, key: str, *members: str) -> Value:
        return self._do_hdel(key, *members)

    def _do_scard(self, key: str) -> Value:
        return self._do_hlen(key)

    def _do_smembers(self, key: str) -> Value:
        return [member.encode() for member in self._data.get(key, {})]

    def _do_xadd(self, key: str, *fields: str) -> Value:
        held = self._of(key, list)
        held.append(dict(zip(fields[::2], fields[1::2], strict=True)))
        return b"%d-0" % len(held)

    def entries(self, stream: str) -> list[dict[str, str]]:
        """What was put on a stream."""
        return list(self._data.get(stream, []))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _bytes(value: Any) -> bytes | None:
    return None if value is None else _text(value).encode()


@cache
def _compiled(text: str) -> tuple[LuaRuntime, Any]:
    runtime = LuaRuntime(unpack_returned_tuples=True, encoding="utf-8")
    runtime.execute("redis = {}; KEYS = {}; ARGV = {}")
    return runtime, runtime.eval("function() " + text + "\nend")


def _to_lua(runtime: LuaRuntime, value: Value) -> Any:
    if value is None:
        return False
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return runtime.table_from([_to_lua(runtime, one) for one in value])
    return value


def _from_lua(value: Any) -> Value:
    if value is None or value is False:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool | int | float):
        return int(value)
    return [_from_lua(value[place]) for place in range(1, len(value) + 1)]
