"""Connections to Redis that have just answered are not asked, and never mix up answers."""

from collections.abc import Iterator

import pytest
import redis

from events import connections
from events.broker import redis_client


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    """A client with one connection, which has just answered."""
    opened = redis_client(f"{valkey}?db=0", max_connections=1)
    assert opened.ping()
    yield opened
    opened.close()


def cut(valkey: str, client: redis.Redis) -> None:
    """End the client's connection from the server's side."""
    number = client.client_id()
    with redis.Redis.from_url(valkey) as other:
        other.client_kill_filter(_id=str(number))


def test_one_that_has_just_answered_is_not_looked_at(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = client.connection_pool
    connection = pool.get_connection()
    looks: list[float] = []
    monkeypatch.setattr(connection._parser, "can_read", looks.append)
    pool.release(connection)
    assert client.ping()
    assert looks == []
    monkeypatch.setattr(connections, "TRUSTED_SECONDS", 0.0)
    assert client.ping()
    assert looks == [0]


def test_one_that_breaks_just_then_fails_one_command(client: redis.Redis, valkey: str) -> None:
    cut(valkey, client)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert client.ping()


def test_one_that_broke_while_it_was_idle_is_replaced(
    client: redis.Redis, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(valkey, client)
    monkeypatch.setattr(connections, "TRUSTED_SECONDS", 0.0)
    assert client.ping()


def test_one_whose_answer_was_not_read_gives_it_to_nobody(client: redis.Redis) -> None:
    connection = client.connection_pool.get_connection()
    connection.send_command("ECHO", "another's")
    assert connection.can_read(timeout=20)
    client.connection_pool.release(connection)
    assert client.echo("mine") == b"mine"
