"""A client of the control endpoints, for tests and for the demo; synchronous."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

TIMEOUT_SECONDS = 30.0


class SandboxControl:
    """Works the sandbox at `url`, its base URL, from outside; safe to use from any thread.

    Every method raises `ValueError` where the sandbox refuses the input, and `OSError` where
    it is not there.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's SDK."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic's SDK."""
        return self.url

    def fault(
        self,
        fault: str,
        *,
        provider: str | None = None,
        key: str | None = None,
        endpoint: str | None = None,
        count: int | None = None,
        after: int = 0,
        latency: float | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Put one of `faults.FAULTS` in force for the calls that the rest names (`faults.Rule`)."""
        rule = {
            "fault": fault,
            "provider": provider,
            "key": key,
            "endpoint": endpoint,
            "count": count,
            "after": after,
            "latency": latency,
            "retry_after": retry_after,
        }
        self._call("POST", "faults", body=rule)

    def clear_faults(self) -> None:
        """Drop every fault that was put in force."""
        self._call("DELETE", "faults")

    def settings(
        self, *, latency: float | None = None, requests_per_minute: int | None = None
    ) -> None:
        """Set the seconds that a completion takes, and the rate limit of every key."""
        settings = {"latency": latency, "requests_per_minute": requests_per_minute}
        self._call("PUT", "settings", body=settings)

    def gate(self, *, closed: bool) -> None:
        """Close the gate, so that completions wait in flight, or open it."""
        self._call("POST", "gate", body={"closed": closed})

    def wait_in_flight(self, at_least: int, *, timeout: float = 10.0) -> int:
        """Wait for completions in flight; gives their number. Raises `TimeoutError`."""
        return self._wait(timeout, in_flight=at_least)

    def wait_idle(self, *, timeout: float = 10.0) -> None:
        """Wait until no completion is in flight. Raises `TimeoutError`."""
        self._wait(timeout, at_most=0)

    def bill(self) -> list[dict[str, Any]]:
        """The sums per provider, key and model."""
        lines: list[dict[str, Any]] = self._call("GET", "bill")
        return lines

    def billed_calls(self) -> list[dict[str, Any]]:
        """The billed calls one by one, oldest first."""
        calls: list[dict[str, Any]] = self._call("GET", "bill?detail=1")
        return calls

    def record(self, limit: int | None = None) -> list[dict[str, Any]]:
        """The last `limit` requests as received (all that are kept where `None`), oldest first."""
        query = "" if limit is None else f"?limit={limit}"
        requests: list[dict[str, Any]] = self._call("GET", f"record{query}")
        return requests

    def stats(self) -> dict[str, Any]:
        """Calls by endpoint and status, completions in flight now and at the peak."""
        stats: dict[str, Any] = self._call("GET", "stats")
        return stats

    def reset(self) -> None:
        """Forget everything."""
        self._call("POST", "reset")

    def _wait(self, timeout: float, **wanted: int) -> int:
        seen = self._call("GET", f"wait?{urlencode({**wanted, 'timeout': timeout})}", extra=timeout)
        if not seen["reached"]:
            raise TimeoutError(f"{seen['in_flight']} completions are in flight, wanted {wanted}")
        in_flight: int = seen["in_flight"]
        return in_flight

    def _call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, extra: float = 0.0
    ) -> Any:
        place = urlsplit(self.url)
        timeout = TIMEOUT_SECONDS + extra
        connection = HTTPConnection(place.hostname or "", place.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/_sandbox/{path}", data)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer
