"""The usage card as it is shown: JSON, CSV, a picture in the terminal, one page."""

import csv
import io
import json
import re
import shutil
import subprocess
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from store import ledger, usage
from store.engine import Database
from store.usage import UsageCard
from tests.unit.store.rows import NOW, ledger_row
from workers.cli import usage as shown
from workers.cli import usagepicture
from workers.cli.usagepage import page

TODAY = "2026-01-31"
PLATFORM = {"credential": "platform", "key_id": None}
CLAUDE = {"provider": "anthropic", "model": "claude-unit-1"}
RULES = {
    "kind": "none",
    "provider": "none",
    "model": "none",
    "credential": "none",
    "key_id": None,
    "input_tokens": 0,
    "output_tokens": 0,
    "cost_nano_usd": 0,
}


@pytest.fixture(scope="module")
def card(_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> UsageCard:
    """A card of three days with all kinds of use."""
    changes: list[dict[str, Any]] = [
        {"local_date": "2026-01-02", "cost_nano_usd": 1},
        {"local_date": "2026-01-02", "operation": "summarize"} | CLAUDE,
        {"local_date": "2026-01-15"} | PLATFORM,
        {"local_date": "2026-01-15", "completes": False, "priced": False, "cost_nano_usd": 0},
        {"local_date": "2026-01-15"} | RULES,
        {"local_date": TODAY, "operation": "reply"} | PLATFORM | CLAUDE,
        {"local_date": TODAY, "kind": "probe", "operation": "probe", "completes": False},
    ]
    rows = [ledger_row(f"row-{n}", **change) for n, change in enumerate(changes)]
    path = tmp_path_factory.mktemp("card") / "byok.sqlite3"
    shutil.copy(_sqlite_file, path)
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        ledger.record(connection, rows, NOW)
        made = usage.card(connection, "s-1", TODAY, 30)
    database.close()
    return made


def described(card: UsageCard) -> dict[str, Any]:
    """The card as JSON has it."""
    told: dict[str, Any] = json.loads(json.dumps(shown.described("acme", "UTC", 30, card)))
    return told


# JSON


@pytest.mark.parametrize("breakdown", ["by_day", "by_operation", "by_model", "by_credential"])
def test_each_breakdown_adds_up_to_the_card(card: UsageCard, breakdown: str) -> None:
    told = described(card)
    parts = told[breakdown]
    # What rules answered ran on no model.
    ran = told["operations"] - (1 if breakdown == "by_model" else 0)
    assert sum(part["operations"] for part in parts) == ran == 5 - (breakdown == "by_model")
    assert sum(part["tokens"] for part in parts) == told["tokens"]
    total = sum(Decimal(part["cost_usd"]) for part in parts)
    assert total == Decimal(told["total_cost_usd"]) == Decimal("0.004938269")


def test_the_card_tells_by_operation_model_and_credential(card: UsageCard) -> None:
    told = described(card)
    operations = {part["operation"]: part["operations"] for part in told["by_operation"]}
    assert operations == {"classify": 3, "summarize": 1, "reply": 1, "probe": 0}
    models = {(part["provider"], part["model"]): part["calls"] for part in told["by_model"]}
    assert models == {("openai", "gpt-unit-1"): 4, ("anthropic", "claude-unit-1"): 2}
    credentials = {part["credential"]: part["operations"] for part in told["by_credential"]}
    assert credentials == {"byok": 2, "platform": 2, "none": 1}
    assert told["unpriced_calls"] == 1
    (day,) = (day for day in told["by_day"] if day["date"] == TODAY)
    assert (day["byok_cost_usd"], day["platform_cost_usd"]) == ("0.001234567", "0.001234567")


# CSV


def read_back(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_the_csv_read_back_gives_the_cards_figures(
    card: UsageCard, capsys: pytest.CaptureFixture[str]
) -> None:
    shown._write_csv(shown.CSV_HEADER, shown._days(card))
    days = read_back(capsys)
    told = described(card)

    def total(name: str) -> int:
        return sum(int(day[name]) for day in days)

    assert [day["date"] for day in days] == [day["date"] for day in told["by_day"]]
    assert (total("operations"), total("tokens")) == (told["operations"], told["tokens"])
    cost = sum(Decimal(day["cost_usd"]) for day in days)
    assert cost == Decimal(told["total_cost_usd"])
    own, platform = total("byok_operations"), total("platform_operations")
    assert own / (own + platform) == told["byok_share"]
    for provider, share in told["provider_distribution"].items():
        assert total(f"{provider}_operations") / (own + platform) == share
    for part in told["by_operation"]:
        if part["operation"] != "probe":
            assert total(f"{part['operation']}_operations") == part["operations"]


def test_the_detailed_csv_read_back_gives_every_breakdown(
    card: UsageCard, capsys: pytest.CaptureFixture[str]
) -> None:
    shown._write_csv(shown.CSV_DETAIL_HEADER, shown._details(card))
    lines = read_back(capsys)
    told = described(card)
    for name in ("operation", "credential", "model"):
        for part in told[f"by_{name}"]:
            of_part = [line for line in lines if line[name] == part[name]]
            assert sum(int(line["operations"]) for line in of_part) == part["operations"]
            assert sum(int(line["calls"]) for line in of_part) == part["calls"]
            cost = sum(Decimal(line["cost_usd"]) for line in of_part)
            assert cost == Decimal(part["cost_usd"])


def test_the_headers_are_those_that_are_documented() -> None:
    told = (Path(__file__).parents[3] / "docs" / "usage.md").read_text()
    documented = [tuple(line.split(",")) for line in re.findall(r"^date,.*$", told, re.MULTILINE)]
    assert documented == [shown.CSV_HEADER, shown.CSV_DETAIL_HEADER]


# The terminal


def drawn(renderable: Any, width: int = 120) -> list[str]:
    console = Console(width=width, color_system=None, record=True, file=io.StringIO())
    console.print(renderable)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("days", [7, 30, 90])
def test_a_days_bar_is_as_high_as_its_operations_and_split_by_credential(days: int) -> None:
    made = UsageCard(first_day="a", last_day="b")
    made.by_day = {f"2026-01-{n:02}": usage.Sums() for n in range(days)}
    first, *_, last = made.by_day
    made.by_day[first] = usage.Sums(operations=8, byok_operations=4, platform_operations=2)
    made.by_day[last] = usage.Sums(operations=1, platform_operations=1)
    lines = drawn(usagepicture.days_picture(made))[1:9]
    left = [line[2] for line in lines]
    assert left == ["░", "░", "▒", "▒", "█", "█", "█", "█"]
    each = usagepicture.WIDTH // days
    at = 2 + each * (days - 1)
    right = [line[at : at + 1].strip() for line in lines]
    assert right == [""] * 7 + ["▒"]
    assert max(map(len, lines)) <= 2 + usagepicture.WIDTH
    assert lines[0].startswith("8 ")


def test_the_distribution_is_drawn_to_its_shares(card: UsageCard) -> None:
    lines = drawn(usagepicture.distribution(card))
    assert [line.split()[0] for line in lines if "%" in line] == ["anthropic", "openai"]
    assert [line.count("█") for line in lines if "%" in line] == [20, 20]


def test_an_empty_window_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    empty = UsageCard(first_day="2026-01-02", last_day=TODAY)
    shown.show_card("acme", 30, empty)
    assert capsys.readouterr().out == "acme: no AI operation in the last 30 days.\n"
    assert "No AI operation in the last 30 days." in page("acme", "UTC", 30, empty)


def test_a_card_with_use_is_shown_whole(
    card: UsageCard, capsys: pytest.CaptureFixture[str]
) -> None:
    shown.show_card("acme", 30, card)
    out = capsys.readouterr().out
    for told in (
        "own keys",
        "classify",
        "gpt-unit-1 (openai)",
        "█",
        "50%",
        "without a known price",
    ):
        assert told in out


# The page


class _Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = _Elements()
    reader.feed(text)
    return reader.found


def test_the_page_holds_the_cards_figures_and_loads_and_runs_nothing(card: UsageCard) -> None:
    made = page("<acme> & co", "Europe/Lisbon", 30, card)
    found = elements(made)
    assert "script" not in {tag for tag, _ in found}
    assert not [
        (tag, attributes)
        for tag, attributes in found
        for name in ("src", "href", "xlink:href", "onload", "onclick")
        if not (attributes.get(name) or "#").startswith("#")
    ]
    assert "<acme>" not in made
    assert "&lt;acme&gt; &amp; co" in made
    assert "default-src 'none'" in made
    assert f"${card.total.cost_usd:.6f}" in made
    assert {a["id"] for tag, a in found if tag == "figure"} == {
        "operations",
        "cost",
        "distribution",
    }
    # A bar for each of: own on one day; own and platform and rules; platform.
    bars = [a for tag, a in found if tag == "rect" and "reactive" in (a.get("class") or "")]
    assert len(bars) >= 5


def test_the_page_as_a_browser_shows_it(card: UsageCard, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: the page is not looked at")
    written, picture = tmp_path / "page.html", tmp_path / "page.png"
    written.write_text(page("acme", "Europe/Lisbon", 30, card))
    subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,1400"),
            f"--screenshot={picture}",
            written.as_uri(),
        ],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with Image.open(picture) as image:
        pixels = image.convert("RGB")
        colours = {name: count for count, name in pixels.getcolors(1 << 24) or ()}
    # Bars of own keys and of the platform's, as the style has them at four fifths of their colour.
    for name, near in (("own keys", (89, 158, 125)), ("platform", (86, 137, 192))):
        found = sum(
            count
            for colour, count in colours.items()
            if all(abs(a - b) < 40 for a, b in zip(colour, near, strict=True))
        )
        assert found > 2_000, f"no bar of {name} is seen"
