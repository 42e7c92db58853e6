"""Permits, adaptive limits and the breaker, on a real Valkey."""

import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from workers.pacing import permits
from workers.pacing.permits import Gate, Hold, Permit, Result, Turn


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    """An empty database of Valkey."""
    with redis.Redis.from_url(f"{valkey}?db=1") as opened:
        opened.flushdb()
        yield opened


@pytest.fixture
def gate(client: redis.Redis) -> Gate:
    """What gives permits."""
    return Gate(client)


def until(holds: Callable[[], object]) -> None:
    """Look until `holds`; fail after 10 s."""
    pause = threading.Event()
    for _ in range(1000):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("did not come to hold")


def enter(gate: Gate, holder: str, scope: str = "key:k1") -> Permit:
    """A permit that must be given."""
    given = gate.enter("openai", scope, holder)
    assert isinstance(given, Permit), given
    return given


def held(gate: Gate, scope: str = "key:k1") -> str:
    """Why no permit is given."""
    given = gate.enter("openai", scope, "nobody")
    assert isinstance(given, Hold), given
    return given.reason


def test_a_key_has_no_more_calls_under_way_than_it_bears(gate: Gate) -> None:
    taken = [enter(gate, f"h{number}") for number in range(permits.FIRST_LIMIT)]
    assert held(gate) == "key_busy"
    enter(gate, "other", scope="key:k2")
    gate.leave(taken[0], Result.OK)
    enter(gate, "again")


def test_a_permit_that_nobody_gives_back_runs_out(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "LEASE_MS", 100)
    for number in range(permits.FIRST_LIMIT):
        enter(gate, f"h{number}")
    assert held(gate) == "key_busy"
    until(lambda: isinstance(gate.enter("openai", "key:k1", "late"), Permit))


def round_of(gate: Gate, calls: int, result: Result = Result.OK) -> None:
    """As many calls as are under way together, which all end alike."""
    for permit in [enter(gate, f"h{number}") for number in range(calls)]:
        gate.leave(permit, result)


def test_the_limit_doubles_a_round_until_its_first_rate_limit_and_grows_by_one_from_there(
    gate: Gate, client: redis.Redis
) -> None:
    round_of(gate, permits.FIRST_LIMIT)
    assert client.hget("byok:limit:key:k1", "limit") == b"32"
    # Four that were refused together are one refusal.
    round_of(gate, 4, Result.LIMITED)
    assert client.hget("byok:limit:key:k1", "limit") == b"16"
    round_of(gate, 15)
    assert client.hget("byok:limit:key:k1", "limit") == b"16"
    round_of(gate, 1)
    assert client.hget("byok:limit:key:k1", "limit") == b"17"


def shared(gate: Gate, account: str, number: int) -> Permit | Hold:
    """A permit of a key that many accounts use."""
    return gate.enter("openai", "platform:openai", f"{account}/{number}", account)


def test_one_account_leaves_room_for_others_on_a_key_that_they_share(gate: Gate) -> None:
    share = int(permits.FIRST_LIMIT * permits.LARGEST_SHARE)
    flood = [shared(gate, "flood", number) for number in range(permits.FIRST_LIMIT)]
    taken = [permit for permit in flood if isinstance(permit, Permit)]
    assert len(taken) == share
    refused = flood[-1]
    assert isinstance(refused, Hold)
    assert refused.reason == "account_busy"
    assert isinstance(shared(gate, "quiet", 1), Permit)
    gate.leave(taken[0], Result.OK)
    assert isinstance(shared(gate, "flood", 99), Permit)


def test_a_share_that_nobody_gives_back_runs_out(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "LEASE_MS", 100)
    assert isinstance([shared(gate, "flood", number) for number in range(13)][-1], Hold)
    until(lambda: isinstance(shared(gate, "flood", 1000), Permit))


def test_a_permit_tells_how_many_more_there_are(gate: Gate) -> None:
    assert [enter(gate, f"h{number}").room for number in range(3)] == [15, 14, 13]
    share = int(permits.FIRST_LIMIT * permits.LARGEST_SHARE)
    given = shared(gate, "flood", 1)
    assert isinstance(given, Permit)
    assert given.room == share - 1


def test_a_key_pauses_for_as_long_as_its_provider_says(gate: Gate) -> None:
    gate.leave(enter(gate, "h"), Result.LIMITED, pause_seconds=0.2)
    told = gate.enter("openai", "key:k1", "h")
    assert isinstance(told, Hold)
    assert told.reason == "rate_limited"
    assert 0 < told.seconds <= 0.2
    enter(gate, "h", scope="key:k2")
    until(lambda: isinstance(gate.enter("openai", "key:k1", "h"), Permit))


def find_down(gate: Gate, times: int = permits.BREAKER_FAILURES) -> list[Turn | None]:
    """Calls of several keys that find the provider down."""
    return [
        gate.leave(enter(gate, f"h{number}", scope=f"key:{number}"), Result.DOWN)
        for number in range(times)
    ]


def test_the_breaker_opens_for_all_keys_and_tells_it_once(gate: Gate) -> None:
    turns = find_down(gate)
    assert turns == [*[None] * (permits.BREAKER_FAILURES - 1), Turn.OPENED]
    assert held(gate, "key:other") == "provider_unavailable"
    assert isinstance(gate.enter("anthropic", "key:other", "h"), Permit)


def test_calls_that_are_answered_keep_the_breaker_closed(gate: Gate) -> None:
    for number in range(3 * permits.BREAKER_FAILURES):
        result = Result.OK if number % 2 else Result.DOWN
        assert gate.leave(enter(gate, "h"), result) is None


def test_after_a_while_one_call_probes_and_the_others_wait_for_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 50)
    find_down(gate)
    until(lambda: not isinstance(gate.enter("openai", "key:busy", "probe"), Hold))
    assert held(gate) == "provider_unavailable"


def test_a_probe_that_is_answered_closes_the_breaker_once(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 50)
    find_down(gate)
    given: list[Permit] = []

    def probing() -> bool:
        told = gate.enter("openai", "key:k1", "probe")
        if isinstance(told, Permit):
            given.append(told)
        return bool(given)

    until(probing)
    assert given[0].probe
    assert gate.leave(given[0], Result.OK) is Turn.CLOSED
    assert gate.leave(enter(gate, "h"), Result.OK) is None


def test_a_probe_that_finds_it_down_waits_longer_each_time(
    gate: Gate, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 20)
    find_down(gate)
    waits: list[int] = []
    for _ in range(3):
        given: list[Permit] = []

        def probing(given: list[Permit] = given) -> bool:
            told = gate.enter("openai", "key:k1", "probe")
            if isinstance(told, Permit):
                given.append(told)
            return bool(given)

        until(probing)
        assert gate.leave(given[0], Result.DOWN) is None
        seconds, micros = client.time()
        told = client.hget("byok:breaker:openai", "open_until")
        assert told is not None
        waits.append(int(told) - (seconds * 1000 + micros // 1000))
    assert waits == sorted(waits)


def test_without_redis_calls_go_on_unpaced() -> None:
    away = Gate(redis.Redis(port=1, socket_connect_timeout=0.2))
    permit = away.enter("openai", "key:k1", "h")
    assert isinstance(permit, Permit)
    assert not permit.paced
    assert away.leave(permit, Result.DOWN) is None


def test_a_probe_that_was_never_sent_lets_another_probe(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 20)
    find_down(gate)
    given: list[Permit] = []

    def probing() -> bool:
        told = gate.enter("openai", "key:k1", "probe")
        if isinstance(told, Permit):
            given.append(told)
        return bool(given)

    until(probing)
    assert held(gate) == "provider_unavailable"
    # As whoever takes over from a dead worker gives it back: it knows the holder alone.
    assert gate.leave(Permit("openai", "key:k1", "probe"), Result.UNSENT) is None
    assert enter(gate, "second").probe


def test_a_breaker_is_told_as_closed_then_open_then_probing(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "BREAKER_OPEN_MS", 100)
    assert gate.breakers() == {"openai": "closed", "anthropic": "closed"}
    for number in range(permits.BREAKER_FAILURES):
        gate.leave(enter(gate, f"h{number}"), Result.DOWN)
    assert gate.breakers() == {"openai": "open", "anthropic": "closed"}
    until(lambda: gate.breakers() == {"openai": "probing", "anthropic": "closed"})
    gate.leave(enter(gate, "probe"), Result.OK)
    assert gate.breakers() == {"openai": "closed", "anthropic": "closed"}
