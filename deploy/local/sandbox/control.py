"""The control endpoints under `/_sandbox/`, by which a test or a demo works the sandbox.

They are on the same loopback port as the APIs and need no key. Bad input gives 400 with
`{"error": sentence}`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from deploy.local.sandbox.faults import Rule
from deploy.local.sandbox.state import Sandbox


class Settings(BaseModel):
    """What `PUT /_sandbox/settings` takes: seconds a completion takes, requests a minute a key."""

    model_config = ConfigDict(extra="forbid")

    latency: float | None = Field(default=None, ge=0)
    requests_per_minute: int | None = Field(default=None, ge=1)


class Gate(BaseModel):
    """What `POST /_sandbox/gate` takes."""

    model_config = ConfigDict(extra="forbid")

    closed: bool


class Wait(BaseModel):
    """The query of `GET /_sandbox/wait`: completions in flight, and how many seconds to wait."""

    model_config = ConfigDict(extra="forbid")

    in_flight: int = 0
    at_most: int = 2**31
    timeout: float = Field(default=10.0, ge=0)


def add_control(app: web.Application, sandbox: Sandbox) -> None:
    """Add the control endpoints for `sandbox` to `app`."""
    control = _Control(sandbox)
    for method, name, handler in (
        ("POST", "faults", control.add_fault),
        ("DELETE", "faults", control.clear_faults),
        ("PUT", "settings", control.set_settings),
        ("POST", "gate", control.set_gate),
        ("GET", "wait", control.wait),
        ("GET", "bill", control.bill),
        ("GET", "record", control.record),
        ("GET", "stats", control.stats),
        ("POST", "reset", control.reset),
    ):
        app.router.add_route(method, f"/_sandbox/{name}", _json(handler))


class _Control:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def add_fault(self, request: web.Request) -> object:
        self._sandbox.faults.add(Rule.model_validate_json(await request.read()))
        return {}

    async def clear_faults(self, _request: web.Request) -> object:
        self._sandbox.faults.clear()
        return {}

    async def set_settings(self, request: web.Request) -> object:
        settings = Settings.model_validate_json(await request.read())
        if settings.latency is not None:
            self._sandbox.latency = settings.latency
        if settings.requests_per_minute is not None:
            self._sandbox.limits.per_minute = settings.requests_per_minute
        return settings.model_dump()

    async def set_gate(self, request: web.Request) -> object:
        gate = Gate.model_validate_json(await request.read())
        self._sandbox.traffic.set_gate(closed=gate.closed)
        return gate.model_dump()

    async def wait(self, request: web.Request) -> object:
        wanted, traffic = Wait.model_validate(dict(request.query)), self._sandbox.traffic
        reached = await traffic.wait(
            lambda now: wanted.in_flight <= now <= wanted.at_most, wanted.timeout
        )
        return {"reached": reached, "in_flight": traffic.in_flight}

    async def bill(self, request: web.Request) -> object:
        bill = self._sandbox.bill
        return bill.details() if request.query.get("detail", "0") != "0" else bill.lines()

    async def record(self, request: web.Request) -> object:
        limit = request.query.get("limit")
        return self._sandbox.record.last(None if limit is None else int(limit))

    async def stats(self, _request: web.Request) -> object:
        return self._sandbox.traffic.shown()

    async def reset(self, _request: web.Request) -> object:
        self._sandbox.reset()
        return {}


def _json(
    handler: Callable[[web.Request], Awaitable[Any]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await handler(request))
        except ValueError as error:  # Pydantic's is one, too.
            return web.json_response({"error": str(error)}, status=400)

    return handle
