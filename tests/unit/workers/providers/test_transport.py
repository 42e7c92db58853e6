"""What can go wrong on the way, and what is told of it."""

import asyncio
import itertools
import json
import logging
import ssl
import time
from types import ModuleType
from typing import Any

import aiohttp
import anthropic
import anyio
import httpx2
import openai
import pydantic
import pytest

from events.keys import Provider
from workers.providers import Failure, OutcomeClass, quiet_sdk_logging
from workers.providers.reply import Broken
from workers.providers.transport import broken_by, open_http, timeouts
from workers.providers.verdict import Trouble

BOTH = pytest.mark.parametrize("provider", list(Provider))
REQUEST = httpx2.Request("POST", "https://provider.invalid/")
REASON = OSError(111, "refused")
PLACE = aiohttp.client_reqrep.ConnectionKey("provider.invalid", 443, True, True, None, None, None)


def raised(*chain: Exception) -> Exception:
    """The last of `chain`, each raised from the one before."""
    for cause, error in itertools.pairwise(chain):
        error.__cause__ = cause
    return chain[-1]


def http_response_error() -> aiohttp.ClientResponseError:
    place: Any = None
    return aiohttp.ClientResponseError(place, (), status=400, message="Bad status line")


def unvalidated() -> pydantic.ValidationError:
    try:
        pydantic.TypeAdapter(int).validate_python("x")
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


CONNECT = Broken(trouble=Trouble.CONNECT, sent=False)
LOST = Broken(trouble=Trouble.LOST)
TIMEOUT = Broken(trouble=Trouble.TIMEOUT)
MALFORMED = Broken(trouble=Trouble.MALFORMED)


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        # As openai's transport maps them: every loss of a connection is a "connect timeout".
        (
            raised(
                aiohttp.ClientConnectorError(PLACE, REASON),
                httpx2.ConnectTimeout("x"),
                openai.APITimeoutError(REQUEST),
            ),
            CONNECT,
        ),
        (
            raised(
                aiohttp.ServerDisconnectedError(),
                httpx2.ConnectTimeout("x"),
                openai.APITimeoutError(REQUEST),
            ),
            LOST,
        ),
        (
            raised(
                aiohttp.ClientOSError(104, "reset"),
                httpx2.ConnectTimeout("x"),
                openai.APITimeoutError(REQUEST),
            ),
            LOST,
        ),
        # As anthropic's does: it is a "connect error".
        (
            raised(
                aiohttp.ServerDisconnectedError(),
                httpx2.ConnectError("x"),
                anthropic.APIConnectionError(request=REQUEST),
            ),
            LOST,
        ),
        (
            raised(
                aiohttp.ConnectionTimeoutError(),
                httpx2.ConnectTimeout("x"),
                anthropic.APITimeoutError(REQUEST),
            ),
            CONNECT,
        ),
        (
            raised(
                aiohttp.SocketTimeoutError(),
                httpx2.ReadTimeout("x"),
                openai.APITimeoutError(REQUEST),
            ),
            TIMEOUT,
        ),
        (
            raised(
                aiohttp.ClientPayloadError("cut"),
                httpx2.ReadError("x"),
                openai.APIConnectionError(request=REQUEST),
            ),
            LOST,
        ),
        (
            aiohttp.ClientConnectorCertificateError(PLACE, ssl.SSLCertVerificationError("x")),
            Broken(trouble=Trouble.TLS, sent=False),
        ),
        (
            aiohttp.ClientConnectorSSLError(PLACE, REASON),
            Broken(trouble=Trouble.TLS, sent=False),
        ),
        (http_response_error(), MALFORMED),
        # httpx2's own, as of its default transport and of streams.
        (httpx2.ConnectError("x"), CONNECT),
        (httpx2.ConnectTimeout("x"), CONNECT),
        (httpx2.PoolTimeout("x"), CONNECT),
        (httpx2.ReadTimeout("x"), TIMEOUT),
        (httpx2.WriteTimeout("x"), TIMEOUT),
        (httpx2.ReadError("x"), LOST),
        (httpx2.RemoteProtocolError("x"), LOST),
        (httpx2.DecodingError("x"), MALFORMED),
        # From the SDKs themselves.
        (json.JSONDecodeError("x", "{", 0), MALFORMED),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), MALFORMED),
        (unvalidated(), MALFORMED),
        (openai.APIResponseValidationError(httpx2.Response(200, request=REQUEST), None), MALFORMED),
        (
            anthropic.APIResponseValidationError(httpx2.Response(200, request=REQUEST), None),
            MALFORMED,
        ),
        (openai.APIConnectionError(request=REQUEST), LOST),
        (openai.APITimeoutError(REQUEST), TIMEOUT),
        (anthropic.APIConnectionError(request=REQUEST), LOST),
        (anthropic.APITimeoutError(REQUEST), TIMEOUT),
        (TimeoutError(), TIMEOUT),
        (anyio.EndOfStream(), LOST),
        (ssl.SSLError("x"), LOST),
        (ConnectionResetError(), LOST),
        (openai.OpenAIError("x"), Broken(trouble=Trouble.UNEXPECTED)),
        (anthropic.AnthropicError("x"), Broken(trouble=Trouble.UNEXPECTED)),
        (RuntimeError("x"), Broken(trouble=Trouble.UNEXPECTED)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.trouble,
)
def test_the_exception_that_lies_lowest_tells_what_became_of_a_call(
    error: Exception, broken: Broken
) -> None:
    assert broken_by(error) == broken


def test_what_the_caller_is_handling_is_not_taken_for_the_cause() -> None:
    error = openai.APITimeoutError(REQUEST)
    error.__context__ = aiohttp.ClientConnectorError(PLACE, REASON)
    assert broken_by(error) == TIMEOUT


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert broken_by(first).trouble is Trouble.UNEXPECTED


@BOTH
@pytest.mark.parametrize(
    ("error", "code", "sent"),
    [
        (httpx2.ConnectError("refused"), "connect_error", False),
        (httpx2.ReadTimeout("slow"), "timeout", True),
        (httpx2.ReadError("cut"), "connection_lost", True),
        (json.JSONDecodeError("x", "{", 0), "malformed", True),
        (RuntimeError("a bug below"), "unexpected", True),
    ],
)
def test_trouble_comes_out_as_a_failure_with_its_model(
    kit: ModuleType, provider: Provider, error: Exception, code: str, sent: bool
) -> None:
    async def run() -> list[Any]:
        client = kit.client(provider, kit.Script(error))
        asked = await client.ask(kit.KEYS[provider], kit.question(provider))
        probed = await client.probe(kit.KEYS[provider], model=kit.MODELS[provider])
        await client.close()
        return [asked, probed]

    # A loss with anthropic's SDK wraps any exception, a bug included, as a lost connection.
    wrapped = provider is Provider.ANTHROPIC and code == "unexpected"
    for outcome in asyncio.run(run()):
        assert isinstance(outcome, Failure)
        assert outcome.kind is OutcomeClass.UNAVAILABLE
        assert outcome.code == ("connection_lost" if wrapped else code)
        assert outcome.sent is sent
        assert outcome.status is None


@BOTH
def test_a_server_that_never_ends_meets_the_timeout_of_the_whole_call(
    kit: ModuleType, provider: Provider
) -> None:
    class Endless(httpx2.AsyncBaseTransport):
        """Takes the request and never answers, whatever timeout the SDK sets."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await asyncio.Event().wait()
            raise AssertionError

    async def run() -> Any:
        client = kit.client(provider, kit.Script(kit.success(provider)))
        client._sdk._client._transport = Endless()
        started = time.monotonic()
        outcome = await client.ask(kit.KEYS[provider], kit.question(provider, timeout=0.05))
        await client.close()
        return outcome, time.monotonic() - started

    outcome, took = asyncio.run(run())
    assert (outcome.kind, outcome.code, outcome.sent) == (OutcomeClass.UNAVAILABLE, "timeout", True)
    assert took < 3


def test_a_connection_must_stand_in_five_seconds_at_most() -> None:
    assert timeouts(60.0).connect == 5.0
    assert timeouts(60.0).read == 60.0
    assert timeouts(2.0).connect == 2.0


@pytest.mark.parametrize("client", [openai.DefaultAioHttpClient, anthropic.DefaultAioHttpClient])
def test_a_proxy_of_the_environment_is_used_but_not_to_reach_this_machine(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://egress.invalid:3128")

    async def mounted(base_url: str) -> int:
        opened = open_http(client, base_url=base_url, max_in_flight=4)
        proxies = [transport for transport in opened._mounts.values() if transport is not None]
        await opened.aclose()
        return len(proxies)

    assert asyncio.run(mounted("https://api.provider.invalid/v1")) > 0
    for here in ("http://127.0.0.1:9/v1", "http://localhost:9", "http://[::1]:9"):
        assert asyncio.run(mounted(here)) == 0


def test_the_loggers_of_the_sdks_are_pinned_at_warning() -> None:
    names = ("openai", "anthropic", "httpx2", "httpcore2", "aiohttp")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
        quiet_sdk_logging()
        for name in names:
            assert not logging.getLogger(f"{name}.some.child").isEnabledFor(logging.INFO)
            assert logging.getLogger(name).isEnabledFor(logging.WARNING)
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
