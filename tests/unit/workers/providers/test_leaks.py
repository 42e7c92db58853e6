"""No way in which a call can end lets out a piece of the key, or a reference to one."""

import asyncio
import gc
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from events.keys import Provider
from workers.providers import quiet_sdk_logging
from workers.providers.transport import send

BOTH = pytest.mark.parametrize("provider", list(Provider))
SECRET = "Zq8vTn3LxW5pRk7YmB2cHd9F"  # the part of a made-up key that must not be seen
PIECES = [SECRET[start : start + 8] for start in range(len(SECRET) - 7)]
KEYS = {
    Provider.OPENAI: SecretStr(f"sk-proj-fake-{SECRET}"),
    Provider.ANTHROPIC: SecretStr(f"sk-ant-api03-fake-{SECRET}"),
}
MAIL = "the-words-of-a-mail"
LOGGERS = ("openai", "anthropic", "httpx2", "httpcore2", "aiohttp", "workers", "asyncio")


def endings(kit: ModuleType, provider: Provider, *, quoted: str) -> list[Any]:
    """Every way of ending, each saying `quoted` wherever it can; requests carry the whole key."""
    key = KEYS[provider].get_secret_value()
    quoting = {"message": f"Incorrect API key provided: {quoted}", "code": quoted, "type": quoted}
    request = httpx2.Request("POST", "https://p.invalid", headers={"authorization": key})
    statuses = (300, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529)
    headers = {"x-request-id": f"a {quoted}", "request-id": f"a {quoted}", "retry-after": quoted}
    return [
        kit.success(provider),
        kit.success(provider, quoted),
        kit.success(provider, model=f"a model, {quoted}"),
        httpx2.Response(200, content=quoted.encode()),
        httpx2.Response(200, json={"error": quoting}),
        *(kit.error(status, quoting, headers) for status in statuses),
        *(httpx2.Response(status, text=f"<p>{quoted}</p>") for status in statuses),
        httpx2.ConnectError(quoted, request=request),
        httpx2.ConnectTimeout(quoted, request=request),
        httpx2.ReadError(quoted, request=request),
        httpx2.ReadTimeout(quoted, request=request),
        httpx2.DecodingError(quoted, request=request),
        UnicodeEncodeError("ascii", quoted, 0, 1, quoted),
        RuntimeError(quoted),
        KeyError(quoted),
    ]


@contextmanager
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The loggers of the SDKs and of this project at DEBUG, and as they were afterwards."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.DEBUG)
        with caplog.at_level(logging.DEBUG):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def outcomes_of(kit: ModuleType, provider: Provider, steps: list[Any]) -> list[Any]:
    """What `ask` and both kinds of `probe` give for each of `steps`."""
    key, model, outcomes = KEYS[provider], kit.MODELS[provider], []

    async def run(step: Any) -> None:
        client = kit.client(provider, kit.Script(step))
        outcomes.append(await client.ask(key, kit.question(provider, user=MAIL)))
        outcomes.append(await client.probe(key, model=model))
        outcomes.append(await client.probe(key, model=model, prove_quota=True))
        outcomes.append(await client.spend(key, model=model))
        await client.close()

    for step in steps:
        asyncio.run(run(step))
    return outcomes


def reachable(root: object) -> Iterator[object]:
    """All that hangs on `root`, as far as it is data."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen.add(id(thing))
        yield thing
        waiting.extend(gc.get_referents(thing))


def found_in(text: str) -> list[str]:
    return [piece for piece in PIECES if piece in text]


def assert_clean(outcomes: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    for outcome in outcomes:
        assert not found_in(f"{outcome!r} {outcome}")
        for thing in reachable(outcome):
            assert not isinstance(thing, BaseException)
            if isinstance(thing, str | bytes):
                text = thing if isinstance(thing, str) else thing.decode("latin-1")
                assert not found_in(text)
    assert not found_in(caplog.text)
    for record in caplog.records:
        for value in (record.getMessage(), record.args, record.exc_text, record.exc_info):
            assert not found_in(str(value))


@BOTH
def test_nothing_comes_out_or_is_logged_of_a_key_however_a_call_ends(
    kit: ModuleType, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    steps = endings(kit, provider, quoted="sk-proj-**********hd9F")
    with everything_logged(caplog):
        outcomes = outcomes_of(kit, provider, steps)
    assert len(outcomes) == 4 * len(steps)
    assert "openai" in caplog.text or "anthropic" in caplog.text
    assert_clean(outcomes, caplog)


@BOTH
def test_nothing_comes_out_where_the_other_side_repeats_the_whole_key(
    kit: ModuleType, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    steps = endings(kit, provider, quoted=KEYS[provider].get_secret_value())
    with everything_logged(caplog):
        # The SDKs log ids of requests and texts of exceptions at DEBUG, whatever these hold.
        quiet_sdk_logging()
        outcomes = outcomes_of(kit, provider, steps)
    assert len(outcomes) == 4 * len(steps)
    assert_clean(outcomes, caplog)


@BOTH
def test_after_the_loggers_are_quieted_no_word_of_a_mail_is_logged(
    kit: ModuleType, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    steps = [kit.success(provider), kit.error(400, {"message": MAIL}), RuntimeError(MAIL)]
    with everything_logged(caplog):
        quiet_sdk_logging()
        outcomes_of(kit, provider, steps)
    assert MAIL not in caplog.text
    assert not [
        record
        for record in caplog.records
        if record.levelno < logging.WARNING and record.name != "asyncio"
    ]


@BOTH
def test_a_cancelled_call_raises_as_cancelled_with_nothing_of_the_key_in_its_frames(
    kit: ModuleType, provider: Provider
) -> None:
    class Silent(httpx2.AsyncBaseTransport):
        """Says that a request came, and never answers."""

        def __init__(self) -> None:
            self.reached = asyncio.Event()

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            self.reached.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def run(what: str) -> asyncio.CancelledError:
        client = kit.client(provider, kit.Script(RuntimeError()))
        client._sdk._client._transport = silent = Silent()
        key, model = KEYS[provider], kit.MODELS[provider]
        call = (
            client.ask(key, kit.question(provider))
            if what == "ask"
            else client.probe(key, model=model)
            if what == "probe"
            else client.spend(key, model=model)
        )
        task = asyncio.ensure_future(call)
        await silent.reached.wait()
        task.cancel("stop")
        try:
            await task
        except asyncio.CancelledError as error:
            return error
        finally:
            await client.close()
        raise AssertionError("the call was not cancelled")

    for what in ("ask", "probe", "spend"):
        error = asyncio.run(run(what))
        assert error.args == ("stop",)
        assert error.__cause__ is None
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(shown.format())
        assert f"in {what}" in text
        assert not found_in(text)


def test_what_a_cancellation_was_raised_from_does_not_come_along() -> None:
    async def call() -> Any:
        raise asyncio.CancelledError("stop") from RuntimeError(SECRET)

    async def run() -> asyncio.CancelledError:
        try:
            await send(call, seconds=5.0)
        except asyncio.CancelledError as error:
            return error
        raise AssertionError

    error = asyncio.run(run())
    assert error.args == ("stop",)
    assert error.__cause__ is None
    assert error.__context__ is None


@BOTH
def test_a_key_that_no_header_can_carry_does_not_show_itself(
    kit: ModuleType, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    for bad in (f"\u00e9{SECRET}", f"a\r\nX-Injected: {SECRET}", f"\x00{SECRET}", ""):
        script = kit.Script(kit.error(401, {}))

        async def run(key: str, script: Any = script) -> Any:
            client = kit.client(provider, script)
            outcome = await client.ask(SecretStr(key), kit.question(provider))
            await client.close()
            return outcome

        outcome = asyncio.run(run(bad))
        assert not found_in(repr(outcome))
        assert not found_in(caplog.text)
        assert all("x-injected" not in request.headers for request in script.requests)
