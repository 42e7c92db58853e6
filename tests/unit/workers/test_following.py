"""What is done for an event says so: in each line of the log, and in its publisher's trace."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from events import EventRefused, KeyTested
from events.envelope import Envelope, wrap
from tests.unit.workers.standins import SIGNING_KEY, event_of, stand_in_settings
from workers.app import App
from workers.boundary import Handlers, take_event
from workers.effects import moment
from workers.settings import ConfigurationError
from workers.telemetry import OpenTelemetry
from workers.tracing import Kind, Untraced, open_tracer

ROOT = Path(__file__).parents[3]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
KEY = "sk-proj-fake-hunter2-not-a-real-key-0123456789"


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged, with what is bound."""
    kept: list[dict[str, Any]] = []

    def keep(_logger: Any, _method: str, line: Any) -> Any:
        kept.append(dict(line))
        raise structlog.DropEvent

    before = structlog.get_config()
    # As new: a command that ran in this process before has set a level.
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    yield kept
    structlog.configure(**before)


@pytest.fixture
def spans(app: App) -> InMemorySpanExporter:
    """The spans of the app, as they end."""
    exporter = InMemorySpanExporter()
    app.__dict__["tracer"] = OpenTelemetry("worker", SimpleSpanProcessor(exporter))
    return exporter


def published(app: App, traceparent: str | None) -> str:
    return wrap(
        KeyTested(key_id="key-1"),
        event_id="evt-1",
        source="upstream",
        time=moment(app.effects),
        account="acme",
        traceparent=traceparent,
        sign=SIGNING_KEY.sign,
    ).to_json()


def handlers(act: Any) -> Handlers:
    return Handlers("keys", {KeyTested: act})


def test_each_line_names_the_event_and_its_account(app: App, lines: list[dict[str, Any]]) -> None:
    log = structlog.get_logger("tests")
    take_event(app, handlers(lambda *_: log.info("inside")), [published(app, None)])
    log.info("outside")
    assert [(line["event"], line.get("event_id"), line.get("account")) for line in lines] == [
        ("inside", "evt-1", "acme"),
        ("outside", None, None),
    ]


def test_what_is_done_for_an_event_is_in_its_publishers_trace(
    app: App, spans: InMemorySpanExporter
) -> None:
    def act(app: App, envelope: Envelope, data: KeyTested) -> None:
        with app.tracer.span("claim"):
            assert (app.tracer.traceparent() or "").startswith(f"00-{TRACE}-")

    take_event(app, handlers(act), [published(app, TRACEPARENT)])
    inner, outer = spans.get_finished_spans()
    assert (inner.name, outer.name) == ("claim", "process keys")
    assert outer.parent is not None
    assert (f"{outer.context.trace_id:032x}", f"{outer.parent.span_id:016x}") == (TRACE, SPAN)
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert attributes(outer) == {"byok.event_id": "evt-1", "byok.account": "acme"}
    assert app.tracer.traceparent() is None


@pytest.mark.parametrize("told", [None, "", "00-x-y-01", TRACEPARENT.upper(), 7])
def test_a_trace_that_cannot_be_read_is_as_none(
    app: App, spans: InMemorySpanExporter, told: Any
) -> None:
    envelope = event_of(KeyTested(key_id="key-1"))
    found = Envelope.model_validate(
        {**envelope.model_dump(), "data": envelope.data, "traceparent": told}
    )
    assert found.traceparent is None
    with app.tracer.caused_by(found.traceparent, "process keys"):
        pass
    (span,) = spans.get_finished_spans()
    assert span.parent is None


def test_no_key_and_no_text_of_an_error_is_in_a_span(app: App, spans: InMemorySpanExporter) -> None:
    def fail() -> None:
        with app.tracer.span("call", Kind.CALL, model=KEY, nothing=None) as span:
            span.tell(request_id=f"req-{KEY}")
            raise EventRefused("x", f"the mail said {KEY}")

    with pytest.raises(EventRefused):
        fail()
    (ended,) = spans.get_finished_spans()
    assert "hunter2" not in ended.to_json()
    assert ended.status.description == "EventRefused"
    assert attributes(ended)["byok.model"] == "sk-[redacted]"
    assert "byok.nothing" not in attributes(ended)
    assert not ended.events


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_where_traces_are_off_a_span_is_nothing() -> None:
    tracer = Untraced()
    with tracer.caused_by(TRACEPARENT, "process keys") as outer, tracer.span("claim") as span:
        span.tell(a=1)
        span.failed("x")
    assert (outer.traceparent, tracer.traceparent()) == (None, None)


def test_where_traces_are_off_their_sdk_is_not_loaded() -> None:
    script = (
        "import sys; import workers.worker, workers.scheduler;"
        # The client of Redis loads the metrics' part of it where it is installed.
        "print({'workers.telemetry', 'opentelemetry.sdk.trace'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_without_the_extra_the_setting_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "workers.telemetry", None)
    monkeypatch.delattr("workers.telemetry")
    settings = stand_in_settings(tmp_path, otlp_endpoint="http://127.0.0.1:4318")
    with pytest.raises(ConfigurationError, match=r"byok-workers\[otel\]"):
        open_tracer(settings, "worker")


def test_with_the_extra_the_setting_traces(tmp_path: Path) -> None:
    settings = stand_in_settings(tmp_path, otlp_endpoint="http://127.0.0.1:1")
    tracer = open_tracer(settings, "worker")
    assert isinstance(tracer, OpenTelemetry)
    tracer.close()
