"""The server: what happens to a request between its arrival and its reply."""

import asyncio
import itertools
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from deploy.local.sandbox import answers, obedient
from deploy.local.sandbox.anthropic_api import Anthropic
from deploy.local.sandbox.control import add_control
from deploy.local.sandbox.exchange import Asked, Call, Draft, Endpoint, Refused, Reply
from deploy.local.sandbox.faults import BILLED, ERRORS, Verdict, key_digest
from deploy.local.sandbox.limits import Standing
from deploy.local.sandbox.openai_api import OpenAi
from deploy.local.sandbox.schema_answer import SchemaRefused
from deploy.local.sandbox.state import Sandbox
from deploy.local.sandbox.tokens import count_tokens, cut

HOST = "127.0.0.1"
MAX_BODY_BYTES = 32 * 1024 * 1024
"""Anthropic's limit for a request."""

DEFAULT_RETRY_AFTER = 1.0
"""Seconds that a scripted rate limit asks the client to wait."""

BACKLOG = 4096
"""Benchmarks open thousands of connections at once; the usual 128 would refuse some."""

_HTML = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
_CUT_JSON = b'{"id":"cut-short","object":"chat.completion","type":"message","content":[{"te'

_Api = OpenAi | Anthropic
_Work = Callable[[Call], Reply]


@asynccontextmanager
async def serving(sandbox: Sandbox, port: int = 0) -> AsyncIterator[str]:
    """Serve `sandbox` on the loopback address, at `port` or a free one; yields the base URL.

    Raises `OSError` where the port is taken.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    _Desk(sandbox).add_routes(app)
    add_control(app, sandbox)
    # No access log: a path or a header may hold what must not be kept. What still runs when the
    # server stops, such as a call that hangs on purpose, is cut off at once.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=BACKLOG).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class _Desk:
    """Takes the providers' requests."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._openai = OpenAi()
        self._anthropic = Anthropic()
        # Ids differ between runs, so that two sandboxes never give the same one.
        self._serial = itertools.count(secrets.randbits(62) << 24)

    def add_routes(self, app: web.Application) -> None:
        """Add both providers' endpoints, and their way of saying 404 for all else."""
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{id:.+}", self._model)
        app.router.add_post("/v1/chat/completions", self._openai_completion)
        app.router.add_post("/v1/responses", self._openai_completion)
        app.router.add_post("/v1/messages", self._message)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_route("*", "/v1/{rest:.*}", self._unknown)

    async def _models(self, request: web.Request) -> web.Response:
        api = self._api(request)
        return await self._serve(request, api, "models", api.models)

    async def _model(self, request: web.Request) -> web.Response:
        api, name = self._api(request), request.match_info["id"]
        return await self._serve(request, api, "models", lambda call: api.model(call, name))

    async def _openai_completion(self, request: web.Request) -> web.Response:
        return await self._serve(request, self._openai, "completion")

    async def _message(self, request: web.Request) -> web.Response:
        return await self._serve(request, self._anthropic, "completion")

    async def _count(self, request: web.Request) -> web.Response:
        return await self._serve(request, self._anthropic, "count_tokens", self._anthropic.count)

    async def _unknown(self, request: web.Request) -> web.Response:
        api, text = self._api(request), f"Invalid URL ({request.method} {request.path})"
        return await self._serve(
            request, api, "models", lambda call: api.unreadable(call, text, status=404)
        )

    def _api(self, request: web.Request) -> _Api:
        headers = request.headers
        theirs = "x-api-key" in headers or "anthropic-version" in headers
        return self._anthropic if theirs else self._openai

    async def _serve(
        self, request: web.Request, api: _Api, endpoint: Endpoint, work: _Work | None = None
    ) -> web.Response:
        """Count, record and answer one request; without `work` it is a completion."""
        key = api.key(request.headers)
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raw, work = b"", partial(api.unreadable, sentence="Request too large", status=413)
        call = Call(
            provider=api.provider,
            endpoint=endpoint,
            path=request.path,
            query=request.query,
            request_id=api.request_id(next(self._serial)),
            key=key,
            digest=key_digest(key),
            raw=raw,
        )
        with self._sandbox.traffic.passing(endpoint) as passage:
            self._sandbox.record.add(call, sorted(name.lower() for name in request.headers))
            if endpoint == "completion":
                await self._sandbox.traffic.pass_gate()
            reply = await self._reply(request, api, call, work)
            if reply is None:
                passage.outcome = "dropped"
                return web.Response()
            passage.outcome = str(reply.status)
            return web.Response(
                status=reply.status,
                body=reply.body,
                headers=api.headers(call, None) | reply.headers,
                content_type=reply.content_type,
            )

    async def _reply(
        self, request: web.Request, api: _Api, call: Call, work: _Work | None
    ) -> Reply | None:
        """The reply to `call`, or `None` where the connection was dropped instead."""
        if not api.admits(call.key):
            return api.refuse(call, "invalid")
        verdict = self._sandbox.faults.choose(call)
        if verdict.fault in ERRORS:
            await _sleep(verdict.latency)
            return self._error(api, call, verdict.fault, verdict.retry_after)
        if verdict.fault and verdict.fault not in BILLED:
            await _sleep(verdict.latency)
            return await _break(request, verdict.fault)
        try:
            if work is None:
                reply = await self._completion(api, call, verdict)
            else:
                await _sleep(verdict.latency)
                reply = work(call)
        except Refused as refused:
            return refused.reply
        except SchemaRefused as refused:
            return api.unreadable(call, f"Invalid schema: {refused}")
        return await _break(request, "reset") if verdict.fault == "bill-then-drop" else reply

    def _error(self, api: _Api, call: Call, fault: str, retry_after: float | None) -> Reply:
        wait = DEFAULT_RETRY_AFTER if retry_after is None else retry_after
        reply = api.refuse(call, fault, retry_after=wait)
        if fault == "ratelimited":
            used_up = Standing(self._sandbox.limits.per_minute, remaining=0, reset=wait)
            reply.headers |= api.headers(call, used_up)
        return reply

    async def _completion(self, api: _Api, call: Call, verdict: Verdict) -> Reply:
        """Answer and bill one completion; raises `Refused` and `SchemaRefused`."""
        sandbox = self._sandbox
        asked = api.read(call)
        standing = sandbox.limits.take(call.digest)
        if standing.wait:
            return self._error(api, call, "ratelimited", standing.wait)
        if verdict.fault == "obedient":
            text = self._obedient(call, asked)
        else:
            text = answers.compose(asked.user, asked.schema)
        draft = _draft(text, verdict.fault, asked.limit)
        # A client that goes away meanwhile is billed all the same, as the providers do.
        await _sleep(sandbox.latency if verdict.latency is None else verdict.latency)
        draft.cached = api.cached(asked, sandbox.cache, f"{call.digest} {asked.model}")
        sandbox.bill.charge(call, asked, draft, fault=verdict.fault)
        return Reply(200, api.compose(call, asked, draft), api.headers(call, standing))

    def _obedient(self, call: Call, asked: Asked) -> str:
        """An answer of the mode `obedient`: it knows the prompt, and what other keys have sent."""
        lately = self._sandbox.record.last(obedient.REMEMBERED)
        own = next((entry for entry in lately if entry["request_id"] == call.request_id), {})
        others = [entry["user"] for entry in lately if entry["key_digest"] != call.digest]
        return obedient.answer(
            asked.user, asked.schema, system=str(own.get("system", "")), heard=others
        )


def _draft(text: str, fault: str, limit: int | None) -> Draft:
    """`text` as far as the fault and the limit of output tokens let it come."""
    if fault == "empty":
        return Draft("", "empty", 1)
    if fault == "refusal":
        return Draft(answers.REFUSAL, "refusal", count_tokens(answers.REFUSAL))
    text = answers.OFF_SCHEMA if fault == "offschema" else text
    size = count_tokens(text)
    room = size // 2 if fault == "length" else size
    room = max(1, room if limit is None else min(room, limit))
    return Draft(text, "end", size) if room >= size else Draft(cut(text, room), "length", room)


async def _sleep(seconds: float | None) -> None:
    if seconds:
        await asyncio.sleep(seconds)


async def _break(request: web.Request, fault: str) -> Reply | None:
    """Fail below the API, as the `faults.BROKEN` do."""
    if fault == "malformed":
        return Reply(200, _CUT_JSON)
    if fault == "html":
        return Reply(502, _HTML, content_type="text/html")
    if fault == "hang":
        # Until the client goes away, for which aiohttp has no event.
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.02)
    elif request.transport is not None:
        # With no time to linger, the close is a TCP reset and not an orderly end.
        plug = request.transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return None
