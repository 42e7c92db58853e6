"""The way to a provider over real sockets: what breaks, what is shared, what is kept apart."""

import asyncio
import gzip
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from pydantic import BaseModel, SecretStr

from deploy.local.sandbox import SandboxServer
from events.keys import Provider
from workers.providers import (
    Answer,
    AnthropicClient,
    Failure,
    OpenAIClient,
    OutcomeClass,
    ProviderClient,
    Question,
)

BOTH = pytest.mark.parametrize("provider", list(Provider))
MODELS = {Provider.OPENAI: "gpt-5.4-mini", Provider.ANTHROPIC: "claude-haiku-4-5"}
SECRET = "Zq8vTn3LxW5pRk7YmB2cHd9F"  # the part of a made-up key that must not be seen
KEYS = {
    Provider.OPENAI: SecretStr(f"sk-proj-fake-{SECRET}"),
    Provider.ANTHROPIC: SecretStr(f"sk-ant-api03-fake-{SECRET}"),
}

Connect = Callable[..., ProviderClient]
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Signals(BaseModel):
    """What is asked for."""

    category: str


def question(provider: Provider, timeout: float = 10.0) -> Question:
    return Question(model=MODELS[provider], system="s", user="u", schema=Signals, timeout=timeout)


def client_at(provider: Provider, base_url: str) -> ProviderClient:
    if provider is Provider.OPENAI:
        return OpenAIClient(base_url=f"{base_url}/v1")
    return AnthropicClient(base_url=base_url)


def assert_no_secret(text: str) -> None:
    pieces = [SECRET[start : start + 8] for start in range(len(SECRET) - 7)]
    assert not [piece for piece in pieces if piece in text]


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[str]:
    """A server that speaks whatever `peer` says; gives its host and port."""
    ended: list[asyncio.Event] = []

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        mine = ended[-1]
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await peer(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        mine.set()

    server = await asyncio.start_server(until_closed, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        # The client has closed its connections by now.
        await asyncio.gather(*(event.wait() for event in ended))


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One HTTP request with a body of known length; its head is given."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))
    return head


def saying(answer: bytes) -> Peer:
    """A peer that answers each request with `answer`, as it is, and hangs up."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return peer


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a byte now and then for ever, so that no read ever times out."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@BOTH
def test_only_a_connection_that_never_stood_counts_as_not_sent(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def run() -> list[Failure | object]:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            client = client_at(provider, f"http://127.0.0.1:{closed.getsockname()[1]}")
            asked = await client.ask(KEYS[provider], question(provider))
            probed = await client.probe(KEYS[provider], model=MODELS[provider])
            await client.close()
        return [asked, probed]

    for outcome in asyncio.run(run()):
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, "connect_error")
        assert outcome.sent is False
    assert_no_secret(caplog.text)


@BOTH
def test_a_handshake_that_fails_is_told_apart_and_nothing_was_sent(provider: Provider) -> None:
    async def plain_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def run() -> Answer | Failure:
        async with listening(plain_text) as place:
            client = client_at(provider, f"https://{place}")
            outcome = await client.ask(KEYS[provider], question(provider))
            await client.close()
            return outcome

    outcome = asyncio.run(run())
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, "tls_error")
    assert outcome.sent is False


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@BOTH
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "connection_lost"),
        (HEAD, "connection_lost"),
        (HEAD + b'Content-Length: 500\r\n\r\n{"model": "m"', "connection_lost"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", "connection_lost"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "malformed"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", "malformed"),
        (HEAD + b"Content-Length: 2\r\n\r\n{}", "malformed"),
    ],
    ids=["nothing", "half-head", "half-body", "half-chunk", "not-http", "not-gzip", "not-it"],
)
def test_an_answer_that_breaks_off_is_an_outage_after_the_send(
    provider: Provider, answer: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def run() -> Answer | Failure:
        async with listening(saying(answer)) as place:
            client = client_at(provider, f"http://{place}")
            outcome = await client.ask(KEYS[provider], question(provider))
            await client.close()
            return outcome

    outcome = asyncio.run(run())
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, code)
    assert outcome.sent
    assert_no_secret(caplog.text)
    assert_no_secret(repr(outcome))


@BOTH
def test_a_compressed_answer_is_read(provider: Provider) -> None:
    body = gzip.compress(b'{"type": "error", "error": {"type": "overloaded_error"}}')
    head = f"HTTP/1.1 529 Overloaded\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}"

    async def run() -> Answer | Failure:
        async with listening(saying(head.encode() + b"\r\n\r\n" + body)) as place:
            client = client_at(provider, f"http://{place}")
            outcome = await client.ask(KEYS[provider], question(provider))
            await client.close()
            return outcome

    outcome = asyncio.run(run())
    assert isinstance(outcome, Failure)
    assert outcome.code == "overloaded"


@BOTH
def test_a_server_that_drips_meets_the_timeout_of_the_whole_call(provider: Provider) -> None:
    async def run() -> Answer | Failure:
        async with listening(dripping) as place:
            client = client_at(provider, f"http://{place}")
            outcome = await client.ask(KEYS[provider], question(provider, timeout=0.5))
            await client.close()
            return outcome

    outcome = asyncio.run(run())
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.sent) == ("timeout", True)


@BOTH
def test_accounts_share_connections_and_no_cookies(provider: Provider) -> None:
    heads: list[bytes] = []
    connections = 0
    refusal = b'{"error": {"message": "busy"}}'

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            heads.append(await read_request(reader))
            writer.write(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
                b"Set-Cookie: __cf_bm=of-the-first-account; path=/\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(refusal), refusal)
            )
            await writer.drain()

    async def run() -> None:
        async with listening(peer) as place:
            client = client_at(provider, f"http://{place}".replace("127.0.0.1", "localhost"))
            for number in range(3):
                key = SecretStr(f"{KEYS[provider].get_secret_value()}-{number}")
                outcome = await client.ask(key, question(provider))
                assert isinstance(outcome, Failure)
                assert outcome.code == "server_error"
            await client.close()

    asyncio.run(run())
    assert connections == 1
    assert len(heads) == 3
    assert not [head for head in heads if b"cookie:" in head.lower()]


@BOTH
def test_a_redirect_takes_neither_key_nor_mail_elsewhere(provider: Provider) -> None:
    elsewhere: list[bytes] = []

    async def other_host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        elsewhere.append(await read_request(reader))

    async def run(status: int) -> Answer | Failure:
        async with listening(other_host) as there:
            moved = f"HTTP/1.1 {status} Moved\r\nLocation: http://{there}/\r\n"
            whole = f"{moved}Content-Length: 0\r\n\r\n".encode()
            async with listening(saying(whole)) as place:
                client = client_at(provider, f"http://{place}")
                outcome = await client.ask(KEYS[provider], question(provider))
                await client.close()
                return outcome

    for status in (302, 307, 308):
        outcome = asyncio.run(run(status))
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.code) == (OutcomeClass.UNAVAILABLE, "redirect")
    assert elsewhere == []


@BOTH
def test_as_many_calls_are_in_flight_as_were_promised(
    provider: Provider, connect: Connect, sandbox: SandboxServer
) -> None:
    many = 200
    sandbox.gate(closed=True)

    async def run() -> list[Answer | Failure]:
        client = connect(provider, max_in_flight=many)
        calls = [
            asyncio.ensure_future(client.ask(KEYS[provider], question(provider, timeout=60)))
            for _ in range(many)
        ]
        await asyncio.to_thread(sandbox.wait_in_flight, many, timeout=50)
        sandbox.gate(closed=False)
        outcomes = await asyncio.gather(*calls)
        await client.close()
        return outcomes

    outcomes = asyncio.run(run())
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert len(sandbox.billed_calls()) == many


@BOTH
def test_a_call_in_flight_can_be_cancelled_and_shows_no_key(
    provider: Provider,
    connect: Connect,
    sandbox: SandboxServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    sandbox.gate(closed=True)

    async def run() -> asyncio.CancelledError:
        client = connect(provider)
        call = asyncio.ensure_future(client.ask(KEYS[provider], question(provider)))
        await asyncio.to_thread(sandbox.wait_in_flight, 1)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError as error:
            return error
        finally:
            await client.close()
        raise AssertionError("the call was not cancelled")

    error = asyncio.run(run())
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert_no_secret("".join(shown.format()))
    assert_no_secret(caplog.text)
