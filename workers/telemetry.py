"""Traces by OpenTelemetry (extra `otel`), sent as OTLP over HTTP in batches."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from events.redaction import redact
from workers.tracing import Attribute, Kind, Span

_KINDS = {
    Kind.INSIDE: SpanKind.INTERNAL,
    Kind.MESSAGE: SpanKind.CONSUMER,
    Kind.CALL: SpanKind.CLIENT,
}
_PREFIX = "byok."

EXPORT_SECONDS = 3.0
"""A batch is given up after this: a collector that is away keeps no process from stopping."""


def to_collector(endpoint: str) -> SpanProcessor:
    """Sends spans to a collector: `endpoint` is its base address, as `http://host:4318`."""
    return BatchSpanProcessor(
        OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    )


class OpenTelemetry:
    """Notes spans and hands them to `processor`; the SDK's `OTEL_TRACES_SAMPLER` says which."""

    def __init__(self, role: str, processor: SpanProcessor) -> None:
        resource = Resource.create({"service.name": "byok", f"{_PREFIX}role": role})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("byok", version("byok-workers"))
        self._wire = TraceContextTextMapPropagator()

    def span(
        self, name: str, kind: Kind = Kind.INSIDE, **attributes: Attribute
    ) -> AbstractContextManager[Span]:
        return self._open(name, kind, None, attributes)

    def caused_by(
        self, traceparent: str | None, name: str, **attributes: Attribute
    ) -> AbstractContextManager[Span]:
        carrier = {} if traceparent is None else {"traceparent": traceparent}
        # Not inside of what goes on in this thread: that is another message's.
        parent = self._wire.extract(carrier, context=Context())
        return self._open(name, Kind.MESSAGE, parent, attributes)

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        self._wire.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        self._provider.shutdown()

    @contextmanager
    def _open(
        self,
        name: str,
        kind: Kind,
        parent: Context | None,
        attributes: dict[str, Attribute],
    ) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=_KINDS[kind],
            # The text of an error may hold what the message held.
            record_exception=False,
            set_status_on_exception=False,
        ) as started:
            span = _Span(self, started)
            span.tell(**attributes)
            try:
                yield span
            except BaseException as error:
                span.failed(type(error).__name__)
                raise


class _Span:
    def __init__(self, owner: OpenTelemetry, started: trace.Span) -> None:
        self._owner = owner
        self._span = started

    @property
    def traceparent(self) -> str | None:
        return self._owner.traceparent()

    def tell(self, **attributes: Attribute) -> None:
        for name, value in attributes.items():
            if value is not None:
                told = redact(value) if isinstance(value, str) else value
                self._span.set_attribute(_PREFIX + name, told)

    def failed(self, code: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, redact(code)))
