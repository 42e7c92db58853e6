"""An analysis is one trace from its publisher on, also where it waited in between."""

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.road import Road
from workers import app as composition
from workers.telemetry import OpenTelemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans of all roles, as they end."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(
        composition,
        "open_tracer",
        lambda settings, role: OpenTelemetry(role, SimpleSpanProcessor(exporter)),
    )
    return exporter


@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
def test_an_analysis_is_traced_from_its_publisher_through_claim_call_and_completion(
    spans: InMemorySpanExporter, road: Road
) -> None:
    request_id = road.ask("later", traceparent=TRACEPARENT)
    road.until(lambda: (r := road.request(request_id, "later")) and r.reason == "account")
    road.account("later")
    assert road.ended(request_id, "later").state == "completed"
    road.out_events("analysis.completed")
    road.until(lambda: "resume analysis" in {s.name for s in spans.get_finished_spans()})
    ours = [s for s in spans.get_finished_spans() if f"{s.context.trace_id:032x}" == TRACE]
    names = [span.name for span in ours]
    assert names == [
        *("claim", "process analyses"),
        *("claim", "call openai", "complete", "resume analysis"),
    ]
    call = dict(ours[3].attributes or {})
    assert call["byok.provider"] == "openai"
    assert call["byok.credential"] == "platform"
    assert call["byok.attempt"] == 1
    told = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert "Lunch on Friday" not in told
    assert "sk-" not in told
    (completed,) = road.out_events("analysis.completed")
    assert completed["traceparent"].startswith(f"00-{TRACE}-")
