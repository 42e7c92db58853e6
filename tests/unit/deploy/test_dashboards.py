"""The dashboards and rules ask for what is exported, and are those that their code makes."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from deploy.grafana import build
from deploy.grafana.board import Panel, Query
from deploy.grafana.boards import BOARDS
from deploy.prometheus import rules
from tests.unit.deploy.promql import Checker, exported

PANELS = [
    pytest.param(panel, id=f"{board.name}: {panel.title}")
    for board in BOARDS
    for panel in board.panels
]
RULES = [rule for group in rules.groups()["groups"] for rule in group["rules"]]
RECORDS = [rule for rule in RULES if "record" in rule]
ALERTS = [rule for rule in RULES if "alert" in rule]


@pytest.fixture
def checker() -> Checker:
    """Knows the exported metrics and what is recorded from them."""
    made = Checker(exported())
    for rule in RECORDS:
        made.record(rule["record"], rule["expr"])
    return made


def test_what_is_recorded_is_made_of_what_is_exported(checker: Checker) -> None:
    assert checker.problems == []
    for rule in RECORDS:
        assert re.fullmatch(r"byok:[a-z_]+:[a-z0-9_]+", rule["record"]), rule["record"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_for_what_is_exported_and_names_what_it_gets(
    checker: Checker, panel: Panel
) -> None:
    for query in panel.queries:
        labels = checker.check(query.expr) or frozenset()
        assert checker.problems == []
        assert set(re.findall(r"{{(\w+)}}", query.legend)) <= labels


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in ALERTS])
def test_an_alert_asks_for_what_is_exported_and_tells_of_what_it_gets(
    checker: Checker, rule: dict[str, Any]
) -> None:
    labels = checker.check(rule["expr"]) or frozenset()
    assert checker.problems == []
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert told <= labels


@pytest.mark.parametrize(
    "expr",
    [
        "byok_nothing",
        'byok_up{part="moon"}',
        'byok_up{queue="keys"}',
        "sum by (account) (byok_up)",
        "sum by (queue) (rate(byok_queue_wait_seconds_count[5m])) / sum(byok_up)",
        "histogram_quantile(0.9, sum by (queue) (rate(byok_queue_wait_seconds_bucket[5m])))",
        'byok_queue_wait_seconds_bucket{le="7.0"}',
        "sum(rate(byok_queue_wait_seconds[5m]))",
    ],
)
def test_the_check_finds_what_does_not_fit(checker: Checker, expr: str) -> None:
    checker.check(expr)
    assert checker.problems


def test_the_files_are_those_that_the_code_makes() -> None:
    there = {path.name: path.read_text() for path in build.DIRECTORY.glob("*.json")}
    assert there == build.files(), "run `python -m deploy.grafana.build`"


def test_there_are_six_dashboards_and_thirty_panels_and_each_says_what_it_tells() -> None:
    assert {board.name for board in BOARDS} == {
        *("overview", "keys", "analyses", "providers", "usage", "queues"),
    }
    panels = [panel for board in BOARDS for panel in board.panels]
    assert len(panels) >= 30
    for board in BOARDS:
        titles = [panel.title for panel in board.panels]
        assert len(set(titles)) == len(titles)
    for panel in panels:
        assert panel.tells.endswith("."), panel.title
        assert panel.queries, panel.title


def test_what_every_exporter_tells_alike_is_never_added_up() -> None:
    shared = re.compile(r"\b(sum|avg|count)( by \([^)]*\))? \(byok_(?!\w+_(total|bucket|count))")
    for expr in (*(q.expr for q in _queries()), *(rule["expr"] for rule in RULES)):
        assert not shared.search(expr), expr


def _queries() -> Iterator[Query]:
    for board in BOARDS:
        for panel in board.panels:
            yield from panel.queries


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_lie_within_the_page_and_on_no_other(board: Any) -> None:
    made = json.loads(build.files()[f"byok-{board.name}.json"])
    assert made["uid"] == f"byok-{board.name}"
    assert [panel["title"] for panel in made["panels"] if panel["type"] != "row"] == [
        panel.title for panel in board.panels
    ]
    ids = [panel["id"] for panel in made["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in made["panels"]]
    assert all(place["x"] + place["w"] <= build.WIDTH for place in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
