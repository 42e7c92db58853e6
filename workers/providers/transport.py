"""The way to a provider and back: one http client, one call, and what can go wrong on the way.

Nothing that leaves this module carries a request. The exceptions of the SDKs, of httpx2 and of
aiohttp all do, in some attribute, and with it the key.
"""

import asyncio
import http.cookiejar
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any, Protocol, cast

import aiohttp
import anthropic
import anyio
import httpx2
import openai
from pydantic import ValidationError

from workers.providers.reply import Broken, Reply
from workers.providers.verdict import Trouble

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection must stand. A provider that takes longer is down."""

KEEP_ALIVE = 30.0
"""Seconds that an idle connection is kept: less than the usual 60 s of load balancers, since a
POST on a connection that they have just closed is lost and never sent again by itself."""

PLACEHOLDER_KEY = "no-key"
"""What the SDKs' base clients are built with; every call goes through a copy with its own key."""

_log = logging.getLogger(__name__)

_SDK_LOGGERS = ("openai", "anthropic", "httpx2", "httpcore2", "aiohttp")


class _Raw(Protocol):
    """What `with_raw_response` gives, in both SDKs."""

    @property
    def http_response(self) -> httpx2.Response: ...


Call = Callable[[], Awaitable[_Raw | httpx2.Response]]
"""One call of an SDK: by a method of its own, or by its client's `post`."""


def quiet_sdk_logging() -> None:
    """Pin the loggers of the SDKs and of their transports at WARNING.

    At DEBUG the SDKs log the options of each request, and so the prompt: a user's mail. At INFO
    httpx2 logs a line a call. `OPENAI_LOG` and `ANTHROPIC_LOG` turn these on when the SDKs are
    imported, so call this after the imports and after logging is configured.
    """
    for name in _SDK_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def open_http(
    client: type[httpx2.AsyncClient], *, base_url: str, max_in_flight: int
) -> httpx2.AsyncClient:
    """Open the http client that all calls to `base_url` share; `client` is an SDK's aiohttp one.

    It belongs to the event loop that first uses it. Twice `max_in_flight` connections are allowed,
    so that a call never waits for one. Redirects are not followed: they would carry the mail,
    and Anthropic's headers, to a host that the operator did not name. Proxies of the environment
    (`HTTPS_PROXY`) are the operator's and are used, but never to reach this machine itself.
    """
    limits = httpx2.Limits(max_connections=2 * max_in_flight, keepalive_expiry=KEEP_ALIVE)
    opened = client(
        timeout=timeouts(60.0),
        limits=limits,
        follow_redirects=False,
        trust_env=not _is_loopback(httpx2.URL(base_url).host),
        cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
    )
    # aiohttp's session has a jar of its own. Providers set cookies (Cloudflare's), and one jar for
    # all accounts would tie them together. The SDKs offer no other way to hand in a session.
    for transport in (opened._transport, *opened._mounts.values()):
        if transport is not None:
            make = partial(_cookieless_session, cast("Any", transport).ssl_context, limits)
            cast("Any", transport).client = make
    return opened


def timeouts(seconds: float) -> httpx2.Timeout:
    """The timeouts of one call that may take `seconds` in all; `send` keeps the whole of it."""
    return httpx2.Timeout(seconds, connect=min(CONNECT_TIMEOUT, seconds))


def refuse_foreign_credentials(headers: Mapping[str, object], variable: str) -> None:
    """Raise `ValueError` where the SDK's environment `variable` replaces every user's key.

    The SDKs merge such headers over those of a call: each user's call would be made, and billed,
    with the key that stands there. The value is not repeated.
    """
    ours = (PLACEHOLDER_KEY, f"Bearer {PLACEHOLDER_KEY}")
    for name, value in headers.items():
        if name.lower() in ("authorization", "x-api-key") and value not in ours:
            raise ValueError(
                f"{variable} sets the header {name}, which carries the users' keys: remove it"
            )


async def send(call: Call, *, seconds: float) -> Reply | Broken:
    """Make one call of an SDK, within `seconds`. Raises nothing but `CancelledError`."""
    try:
        return await _exchange(call, seconds)
    except asyncio.CancelledError as error:
        # The frames and the chain below hold the key in plain text, and whoever waits for this
        # task may log them (structlog shows locals).
        error.__cause__ = error.__context__ = None
        raise error.with_traceback(None)  # noqa: B904 -- it is the same exception
    except Exception as error:  # noqa: BLE001 -- nothing of the SDKs may leave
        broken = broken_by(error)
        if broken.trouble is Trouble.UNEXPECTED:
            _log.error("a call of a provider ended with %s", _kind_and_place(error))
        return broken


async def _exchange(call: Call, seconds: float) -> Reply:
    # The SDKs' read timeout is per piece of the body: a server that drips never meets it.
    async with asyncio.timeout(seconds):
        try:
            answered = await call()
            response = answered if isinstance(answered, httpx2.Response) else answered.http_response
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            response = error.response
    return Reply(status=response.status_code, headers=dict(response.headers), body=response.content)


def broken_by(error: BaseException) -> Broken:
    """Tell what became of a call by the exception that it ended with.

    The vendored aiohttp transport calls each loss of a connection a "connect timeout" (in
    openai's copy) or a "connect error" (in anthropic's): the exception of aiohttp that lies under
    it decides, else httpx2's, else the SDK's.
    """
    chain = list(_chain(error))
    for kinds, broken in _BY_EXCEPTION:
        if any(isinstance(link, kinds) for link in chain):
            return broken
    return Broken(trouble=Trouble.UNEXPECTED)


# In order: the first that occurs anywhere in the chain decides.
_BY_EXCEPTION: tuple[tuple[tuple[type[BaseException], ...], Broken], ...] = (
    ((aiohttp.ClientSSLError,), Broken(trouble=Trouble.TLS, sent=False)),
    ((aiohttp.ClientConnectorError,), Broken(trouble=Trouble.CONNECT, sent=False)),
    ((aiohttp.ConnectionTimeoutError,), Broken(trouble=Trouble.CONNECT, sent=False)),
    ((aiohttp.ClientHttpProxyError,), Broken(trouble=Trouble.CONNECT, sent=False)),
    ((aiohttp.ServerTimeoutError,), Broken(trouble=Trouble.TIMEOUT)),
    ((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError), Broken(trouble=Trouble.LOST)),
    ((aiohttp.ClientResponseError,), Broken(trouble=Trouble.MALFORMED)),
    ((httpx2.ConnectError, httpx2.ConnectTimeout), Broken(trouble=Trouble.CONNECT, sent=False)),
    ((httpx2.PoolTimeout,), Broken(trouble=Trouble.CONNECT, sent=False)),
    ((httpx2.TimeoutException,), Broken(trouble=Trouble.TIMEOUT)),
    ((httpx2.DecodingError,), Broken(trouble=Trouble.MALFORMED)),
    ((httpx2.TransportError,), Broken(trouble=Trouble.LOST)),
    (
        (json.JSONDecodeError, UnicodeDecodeError, ValidationError),
        Broken(trouble=Trouble.MALFORMED),
    ),
    ((openai.APIResponseValidationError,), Broken(trouble=Trouble.MALFORMED)),
    ((anthropic.APIResponseValidationError,), Broken(trouble=Trouble.MALFORMED)),
    (
        (TimeoutError, openai.APITimeoutError, anthropic.APITimeoutError),
        Broken(trouble=Trouble.TIMEOUT),
    ),
    ((openai.APIConnectionError, anthropic.APIConnectionError), Broken(trouble=Trouble.LOST)),
    ((ConnectionError, ssl.SSLError, anyio.EndOfStream), Broken(trouble=Trouble.LOST)),
)


def _kind_and_place(error: BaseException) -> str:
    """Name `error` and where it was raised, for whoever has to mend it; never what it says."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    return f"{type(error).__module__}.{type(error).__qualname__}{place}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from, outermost first; at most 20, for a chain may be a ring.

    Not `__context__`: it reaches into what the caller may be handling, another provider's failure.
    """
    link: BaseException | None = error
    for _ in range(20):
        if link is None:
            return
        yield link
        link = link.__cause__


def _cookieless_session(context: ssl.SSLContext, limits: httpx2.Limits) -> aiohttp.ClientSession:
    """The session of one transport, made at its first request, on the loop that it belongs to."""
    connector = aiohttp.TCPConnector(
        limit=limits.max_connections or 0, keepalive_timeout=KEEP_ALIVE, ssl=context
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
