"""Each alert fires when it must and is quiet when it must, and has a page that says what to do."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus import rules
from deploy.prometheus.alerts import ALERTS
from deploy.prometheus.clock import Clock, seconds
from tests.integration.alerts.cases import CASES, Case, Series
from workers.cli.main import app
from workers.settings import Settings

ROOT = Path(__file__).parents[3]
SECTIONS = ("## What users feel", "## What to look at", "## What to do")
RULES = [rule for group in rules.groups()["groups"] for rule in group["rules"]]
ALERTING = {rule["alert"]: rule for rule in RULES if "alert" in rule}


@pytest.fixture(scope="module")
def promtool() -> str:
    """The path of promtool."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: Debian's package `prometheus` has it")
    return found


def test_the_rules_are_those_that_are_generated() -> None:
    assert rules.PATH.read_text() == rules.text(), "run `python -m deploy.prometheus.rules`"


def test_the_rules_and_the_sample_configuration_are_prometheus_own(promtool: str) -> None:
    for what, file in (("rules", rules.PATH), ("config", rules.PATH.with_name("prometheus.yml"))):
        checked = subprocess.run(
            [promtool, "check", what, str(file)], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        assert "SUCCESS" in checked.stdout


def test_there_is_a_case_for_every_alert() -> None:
    assert CASES.keys() == ALERTING.keys()
    assert len(ALERTS) >= 15


@pytest.mark.parametrize("name", sorted(ALERTING))
def test_an_alert_has_a_runbook_that_says_what_users_feel_and_what_to_do(name: str) -> None:
    rule = ALERTING[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    page = (ROOT / rule["annotations"]["runbook"]).read_text()
    assert f"`{name}`" in page, "the page names the alert"
    places = [page.index(section) for section in SECTIONS]
    assert places == sorted(places)
    for section, text in zip(SECTIONS, _sections(page), strict=True):
        assert len(text.split()) >= 8, f"{section} says too little"


def _sections(page: str) -> Iterator[str]:
    for number, section in enumerate(SECTIONS):
        rest = page.split(section)[1]
        yield rest.split(SECTIONS[number + 1])[0] if number + 1 < len(SECTIONS) else rest


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    named = {Path(rule["annotations"]["runbook"]).name for rule in ALERTING.values()}
    there = {path.name for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert there - {"README.md"} == named


def test_every_panel_that_a_runbook_names_is_on_a_dashboard() -> None:
    dashboards = (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
    titles = {
        title for board in dashboards for title in re.findall(r'"title": "(.+)"', board.read_text())
    }
    named = {
        (path.name, " ".join(title.split()))
        for path in (ROOT / "docs" / "runbooks").glob("*.md")
        for title in re.findall(r'"([A-Z][^"]+)"', path.read_text())
    }
    assert len(named) > 30
    assert {one for one in named if one[1] not in titles} == set()


def test_promtool_finds_each_alert_firing_and_quiet(promtool: str, tmp_path: Path) -> None:
    files = [str(_test_file(tmp_path, name, case)) for name, case in CASES.items()]
    ran = subprocess.run(
        [promtool, "test", "rules", *files], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _test_file(directory: Path, name: str, case: Case) -> Path:
    """The tests of one alert, with its rule and what that reads alone: so they are quick."""
    # What takes hours is evaluated less often: its rules look at hours anyway.
    interval = "10m" if seconds(case.at) > 3600 else "1m"
    alert = ALERTING[name]
    read = [rule for rule in RULES if rule.get("record", "-") in alert["expr"]]
    groups = [
        {"name": kind, "interval": interval, "rules": chosen}
        for kind, chosen in (("records", read), ("alerts", [alert]))
    ]
    (directory / f"{name}.rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    tests = {
        "rule_files": [f"{name}.rules.yml"],
        "evaluation_interval": interval,
        "group_eval_order": ["records", "alerts"],
        "tests": list(_tests(name, case)),
    }
    given = directory / f"{name}.tests.yml"
    given.write_text(yaml.safe_dump(tests))
    return given


def _tests(name: str, case: Case) -> Iterator[dict[str, Any]]:
    fires = {"alertname": name, "alertstate": "firing", "severity": case.severity, **case.labels}
    labels = ",".join(f'{label}="{value}"' for label, value in fires.items())
    yield _test(f"{name} fires", name, case.firing, case.at, [f"ALERTS{{{labels}}}"])
    for number, series in enumerate(case.quiet):
        yield _test(f"{name} is quiet {number}", name, series, case.at, [])


def _test(title: str, name: str, series: Series, at: str, fires: list[str]) -> dict[str, Any]:
    return {
        "name": title,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{name}",alertstate="firing"}}',
                "eval_time": at,
                "exp_samples": [{"labels": labels, "value": 1} for labels in fires],
            }
        ],
    }


def test_a_faster_clock_shortens_windows_waits_and_ages_alone() -> None:
    fast = Clock(speed=60, shortest=4)
    assert [fast.window(one) for one in ("5m", "1h", "3d")] == ["5s", "60s", "4320s"]
    assert [fast.wait(one) for one in ("0s", "1m", "15m")] == ["0s", "1s", "15s"]
    assert fast.age("1m") == "4"
    slow, quick = (rules.groups(clock)["groups"] for clock in (Clock(), fast))
    for before, after in zip(slow, quick, strict=True):
        names = [rule.get("alert", rule.get("record")) for rule in before["rules"]]
        assert names == [rule.get("alert", rule.get("record")) for rule in after["rules"]]


def test_every_command_and_setting_that_a_runbook_names_is_there() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "runbooks").glob("*.md"))
    for told in set(re.findall(r"`byok ([^`]+)`", pages)):
        command: Any = app
        options: set[str] = set()
        for word in told.split():
            if word.startswith("--"):
                options.add(word)
            elif hasattr(command, "commands"):
                assert word in command.commands, told
                command = command.commands[word]
        known = {option for parameter in command.params for option in parameter.opts}
        assert options <= known, told
    settings = set(re.findall(r"`((?:BYOK|OPENAI|ANTHROPIC)_[A-Z_]+)", pages))
    assert settings <= {
        str(field.validation_alias or f"BYOK_{name.upper()}")
        for name, field in Settings.model_fields.items()
    }
