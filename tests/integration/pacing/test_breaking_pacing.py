"""Pacing under what may happen to it: two processes, a Redis that was emptied, what headers say."""

from collections.abc import Iterator

import pytest
import redis

from workers.pacing import permits
from workers.pacing.permits import Gate, Hold, Permit, Result, Turn, result_of
from workers.providers.port import Answer, Failure, Limits, OutcomeClass, Tokens


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    """An empty database of Valkey."""
    with redis.Redis.from_url(f"{valkey}?db=1") as opened:
        opened.flushdb()
        yield opened


@pytest.fixture
def two(valkey: str, client: redis.Redis) -> Iterator[tuple[Gate, Gate]]:
    """The gates of two processes, one of which has its clock an hour ahead."""
    with redis.Redis.from_url(f"{valkey}?db=1") as other:
        yield Gate(client, lambda: 0.0), Gate(other, lambda: 3600.0)


def enter(gate: Gate, holder: str, scope: str = "key:k1") -> Permit | Hold:
    return gate.enter("openai", scope, holder)


def permit(gate: Gate, holder: str, scope: str = "key:k1") -> Permit:
    """A permit that must be given."""
    given = enter(gate, holder, scope)
    assert isinstance(given, Permit), given
    return given


def find_down(gate: Gate) -> list[Turn | None]:
    """As many calls as it takes that find the provider down."""
    return [
        gate.leave(permit(gate, f"h{number}", f"key:{number}"), Result.DOWN)
        for number in range(permits.BREAKER_FAILURES)
    ]


def test_two_processes_share_a_keys_limit(two: tuple[Gate, Gate]) -> None:
    one, other = two
    taken = [permit(two[number % 2], f"h{number}") for number in range(permits.FIRST_LIMIT)]
    assert isinstance(enter(one, "more"), Hold)
    assert isinstance(enter(other, "more"), Hold)
    # Whoever gives one back: it is the holder that counts.
    other.leave(taken[0], Result.OK)
    permit(one, "more")


def test_a_breaker_that_one_process_opens_is_open_for_all_and_one_of_them_probes(
    two: tuple[Gate, Gate], client: redis.Redis
) -> None:
    one, other = two
    assert find_down(one)[-1] is Turn.OPENED
    assert other.out() == {"openai"}
    assert isinstance(enter(other, "h", "key:x"), Hold)
    # Its time is over.
    client.hset("byok:breaker:openai", "open_until", 1)
    probe = permit(other, "probe", "key:x")
    assert probe.probe
    waits = enter(one, "second", "key:y")
    assert isinstance(waits, Hold)
    assert waits.reason == "provider_unavailable"
    assert other.leave(probe, Result.OK) is Turn.CLOSED
    assert not permit(one, "second", "key:y").probe


def test_a_redis_that_comes_back_empty_starts_anew_and_learns_again(
    two: tuple[Gate, Gate], client: redis.Redis
) -> None:
    one, other = two
    before = [permit(one, f"h{number}") for number in range(permits.FIRST_LIMIT)]
    client.flushdb()
    # What was under way is forgotten, and given back all the same without a trace.
    after = [permit(other, f"n{number}") for number in range(permits.FIRST_LIMIT)]
    for gone in before:
        assert one.leave(gone, Result.OTHER) is None
    assert isinstance(enter(one, "more"), Hold)
    other.leave(after[0], Result.OTHER)
    permit(one, "more")


@pytest.mark.parametrize("result", [Result.OK, Result.DOWN, Result.OTHER, Result.UNSENT])
def test_the_end_of_a_probe_that_redis_has_forgotten_blocks_nobody(
    two: tuple[Gate, Gate], client: redis.Redis, result: Result
) -> None:
    one, other = two
    find_down(one)
    client.hset("byok:breaker:openai", "open_until", 1)
    probe = permit(one, "probe", "key:x")
    client.flushdb()
    assert one.leave(probe, result) is None
    client.hset("byok:breaker:openai", "open_until", 1) if result is Result.DOWN else None
    permit(other, "h", "key:y")


def test_a_redis_that_lost_its_scripts_is_given_them_again(
    two: tuple[Gate, Gate], client: redis.Redis
) -> None:
    one, _ = two
    taken = permit(one, "h")
    client.script_flush()
    assert permit(one, "again").paced
    one.leave(taken, Result.OK)


def test_a_clock_of_redis_that_is_set_back_holds_nobody_back(
    two: tuple[Gate, Gate], client: redis.Redis
) -> None:
    one, other = two
    hours_ahead = (client.time()[0] + 10 * 3600) * 1000
    leaked = {f"h{number}": hours_ahead for number in range(permits.FIRST_LIMIT)}
    client.zadd("byok:permits:platform:openai", leaked)
    client.zadd("byok:permits:platform:openai:acme", leaked)
    client.hset("byok:limit:platform:openai", "paused_until", hours_ahead)
    client.hset("byok:breaker:openai", mapping={"open_until": hours_ahead, "probing_until": 0})
    assert one.out() == frozenset()
    assert isinstance(other.enter("openai", "platform:openai", "h", "acme"), Permit)


NOTHING_LEFT = Limits(remaining_requests=0, reset_requests=7.0)
SOME_LEFT = Limits(remaining_requests=3, reset_requests=7.0)
TOKENS_GONE = Limits(remaining_requests=3, reset_requests=7.0, remaining_tokens=0, reset_tokens=2.5)


def answer(limits: Limits) -> Answer:
    return Answer(
        value=None, model="m", tokens=Tokens(input=1, output=1), request_id="r", limits=limits
    )


def refusal(retry_after: float | None, limits: Limits) -> Failure:
    return Failure(
        kind=OutcomeClass.RATE_LIMITED,
        code="rate_limit_exceeded",
        status=429,
        retry_after=retry_after,
        limits=limits,
    )


@pytest.mark.parametrize(
    ("outcome", "result", "seconds"),
    [
        # An answer that used the last of a limit pauses its key until that is reset.
        (answer(NOTHING_LEFT), Result.OK, 7.0),
        (answer(TOKENS_GONE), Result.OK, 2.5),
        (answer(SOME_LEFT), Result.OK, 0.0),
        (answer(Limits()), Result.OK, 0.0),
        (refusal(4.0, NOTHING_LEFT), Result.LIMITED, 4.0),
        (refusal(None, NOTHING_LEFT), Result.LIMITED, 7.0),
        (refusal(None, Limits()), Result.LIMITED, 0.0),
        # Nobody asks for weeks.
        (refusal(10.0**7, Limits()), Result.LIMITED, 3600.0),
    ],
)
def test_a_key_is_paced_by_what_its_providers_headers_say(
    outcome: Answer | Failure, result: Result, seconds: float
) -> None:
    assert result_of(outcome) == (result, seconds)


def test_a_key_whose_limit_is_used_up_pauses_until_it_is_reset(two: tuple[Gate, Gate]) -> None:
    one, other = two
    one.leave(permit(one, "h"), *result_of(answer(NOTHING_LEFT)))
    held = enter(other, "h")
    assert isinstance(held, Hold)
    assert held.reason == "rate_limited"
    assert 6.0 < held.seconds <= 7.0
