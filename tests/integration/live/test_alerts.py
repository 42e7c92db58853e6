"""A real Prometheus over a live system under faults: alerts fire and clear, panels show data."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy.grafana.boards import BOARDS
from deploy.grafana.pictures import Drawing
from tests.integration.live import faults
from tests.integration.live.faults import Fault
from tests.integration.live.prometheus import RATE_WINDOW, Prometheus, free_port, running, until
from tests.integration.process.running import Up

FIRES_WITHIN = 60.0
CLEARS_WITHIN = 90.0


@pytest.fixture
def program() -> str:
    """The path of Prometheus."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("prometheus is not installed: it is Debian's package `prometheus`")
    return found


@pytest.fixture
def live(program: str, tmp_path: Path) -> Iterator[tuple[Up, Prometheus]]:
    """A system that runs and has run well, and the Prometheus that watches it."""
    port = free_port()
    environment = {
        "BYOK_EXPORTER_PORT": str(port),
        "BYOK_PLATFORM_BUDGET_USD": str(faults.PLATFORM_BUDGET_USD),
    }
    up = Up(tmp_path, environment)
    try:
        up.start()
        with running(program, tmp_path, port) as prometheus:
            faults.prepare(up)
            with faults.load(up):
                assert not prometheus.firing(), "all is well"
                yield up, prometheus
    finally:
        up.close()


def put_through(up: Up, prometheus: Prometheus, group: Sequence[Fault]) -> None:
    """Inject faults, see all their alerts fire, heal them, and see all of them clear."""
    wanted = {alert for fault in group for alert in fault.alerts}
    assert not wanted & prometheus.firing(), "what is to fire does not fire yet"
    seen: set[str] = set()

    def all_fired() -> bool:
        seen.update(prometheus.firing())
        return wanted <= seen

    began = time.monotonic()
    try:
        for fault in group:
            fault.inject(up)
        until(all_fired, "the alerts fire", FIRES_WITHIN)
    except AssertionError:
        raise AssertionError(f"did not fire: {sorted(wanted - seen)}; did: {seen}") from None
    finally:
        for fault in group:
            fault.heal(up)
    fired = time.monotonic()
    try:
        until(lambda: not wanted & prometheus.firing(), "the alerts clear", CLEARS_WITHIN)
    except AssertionError:
        raise AssertionError(f"did not clear: {wanted & prometheus.firing()}") from None
    for fault in group:
        for alert in fault.alerts:
            print(f"{alert:32} fired and cleared: {fault.what}")
    cleared = time.monotonic()
    print(f"  all fired within {fired - began:.0f} s, cleared within {cleared - fired:.0f} s")


def assert_panels_show_data(prometheus: Prometheus) -> None:
    """Every query of every panel gave something; prints how many series each."""
    empty: list[str] = []
    for board in BOARDS:
        print(f"\n{board.title}")
        for panel in board.panels:
            found = [len(prometheus.series(query.expr)) for query in panel.queries]
            print(f"  {sum(found):3} series  {panel.title}")
            empty += [f"{board.name}: {panel.title}" for count in found if not count]
    assert not empty


@pytest.mark.timeout(400)
def test_alerts_fire_and_clear_and_every_panel_shows_data(live: tuple[Up, Prometheus]) -> None:
    up, prometheus = live
    assert_promtool_likes(up.metrics())
    for group in (faults.QUICK, faults.FROZEN, faults.BLIND):
        put_through(up, prometheus, group)
    draw_pictures(prometheus)
    assert_panels_show_data(prometheus)


def assert_promtool_likes(page: str) -> None:
    """Nothing is wrong with the page, says the program that comes with Prometheus."""
    checked = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 -- where Prometheus is, it is beside it
        input=page,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def draw_pictures(prometheus: Prometheus) -> None:
    """Draw the dashboards into the directory `BYOK_TEST_PICTURES`, where one is named."""
    directory = os.environ.get("BYOK_TEST_PICTURES")
    if directory:
        drawing = Drawing(prometheus.url, prometheus.began, time.time(), RATE_WINDOW)
        for board in BOARDS:
            drawing.draw(board, Path(directory) / f"byok-{board.name}.png")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_slow_faults_fire_their_alerts_and_clear_them(live: tuple[Up, Prometheus]) -> None:
    up, prometheus = live
    for group in (faults.KILLED, faults.OUTAGE, faults.NO_QUEUE):
        put_through(up, prometheus, group)
