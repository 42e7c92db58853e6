"""Traces: what a message caused, from its publisher's `traceparent` on.

Off unless `BYOK_OTLP_ENDPOINT` is set. Off, nothing of OpenTelemetry is loaded by us and a span is
nothing but a call. No span holds a key, a mail or the text of an error: attributes are ids and
codes.
"""

from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from typing import Protocol

from workers.settings import ConfigurationError, Settings

Attribute = str | int | float | bool | None


class Kind(Enum):
    """What a span is about."""

    INSIDE = auto()
    MESSAGE = auto()
    CALL = auto()


class Span(Protocol):
    """Something that goes on."""

    @property
    def traceparent(self) -> str | None:
        """How others name it (W3C Trace Context), or `None` where nothing is traced."""
        ...

    def tell(self, **attributes: Attribute) -> None:
        """Note what is known of it by now; `None` is left out."""
        ...

    def failed(self, code: str) -> None:
        """It did not go well."""
        ...


class Tracer(Protocol):
    """Notes what goes on, and inside of what."""

    def span(
        self, name: str, kind: Kind = Kind.INSIDE, **attributes: Attribute
    ) -> AbstractContextManager[Span]:
        """Something inside of what goes on in this thread."""
        ...

    def caused_by(
        self, traceparent: str | None, name: str, **attributes: Attribute
    ) -> AbstractContextManager[Span]:
        """A message's work, inside of what its publisher named, or the first of a new trace."""
        ...

    def traceparent(self) -> str | None:
        """How others name what goes on in this thread, or `None`."""
        ...

    def close(self) -> None:
        """Send what was not sent yet."""
        ...


class _Nothing:
    traceparent = None

    def tell(self, **attributes: Attribute) -> None:
        pass

    def failed(self, code: str) -> None:
        pass


class Untraced:
    """Notes nothing."""

    def __init__(self) -> None:
        self._nothing: AbstractContextManager[Span] = nullcontext(_Nothing())

    def span(
        self,
        name: str,  # noqa: ARG002 -- as the protocol has it
        kind: Kind = Kind.INSIDE,  # noqa: ARG002
        **attributes: Attribute,  # noqa: ARG002
    ) -> AbstractContextManager[Span]:
        return self._nothing

    def caused_by(
        self,
        traceparent: str | None,  # noqa: ARG002 -- as above
        name: str,  # noqa: ARG002
        **attributes: Attribute,  # noqa: ARG002
    ) -> AbstractContextManager[Span]:
        return self._nothing

    def traceparent(self) -> str | None:
        return None

    def close(self) -> None:
        pass


def open_tracer(settings: Settings, role: str) -> Tracer:
    """The tracer that the settings ask for. Raises `ConfigurationError` without the extra."""
    if settings.otlp_endpoint is None:
        return Untraced()
    try:
        from workers import telemetry  # noqa: PLC0415 -- an optional extra
    except ImportError:
        raise ConfigurationError(
            "BYOK_OTLP_ENDPOINT needs the extra `otel`: install byok-workers[otel], or unset it."
        ) from None
    return telemetry.OpenTelemetry(role, telemetry.to_collector(settings.otlp_endpoint))
