"""What processes counted is added up, and outlives them without leaving a file for each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metrics import processes
from metrics.instruments import open_instruments
from tests.unit.metrics.conftest import ROOT, Export, count, labelled, scrape

TAKEN = labelled(queue="keys", type="byok.key.added.v1", outcome="taken")


def test_what_two_processes_counted_is_added_up_and_survives_them(
    tmp_path: Path, export: Export
) -> None:
    exporter = export(tmp_path / "metrics")
    assert count(tmp_path / "metrics", 3) == 0
    assert scrape(exporter)["byok_events_total"] == {TAKEN: 3}
    assert count(tmp_path / "metrics", 4) == 0
    page = scrape(exporter)
    assert page["byok_events_total"] == {TAKEN: 7}
    openai = labelled(provider="openai")
    assert page["byok_provider_call_duration_seconds_count"][openai] == 2
    assert page["byok_provider_call_duration_seconds_sum"][openai] == pytest.approx(0.6)


def test_what_a_killed_process_counted_is_not_lost(tmp_path: Path, export: Export) -> None:
    assert count(tmp_path / "metrics", 5, then="os.kill(os.getpid(), 9)") == -9
    assert scrape(export(tmp_path / "metrics"))["byok_events_total"] == {TAKEN: 5}


def test_restarts_leave_no_files_behind_and_no_counter_falls(
    tmp_path: Path, export: Export
) -> None:
    exporter = export(tmp_path / "metrics")
    for restart in range(1, 4):
        count(tmp_path / "metrics", 2)
        assert scrape(exporter)["byok_events_total"] == {TAKEN: 2 * restart}
        left = {path.name for path in (tmp_path / "metrics").iterdir()}
        assert left == {"counter_merged.db", "histogram_merged.db", "guard.lock"}


def test_a_running_process_is_seen_while_it_counts(tmp_path: Path, export: Export) -> None:
    exporter = export(tmp_path / "metrics")
    instruments = open_instruments(tmp_path / "metrics")
    instruments.takeovers.inc()
    assert scrape(exporter)["byok_lease_takeovers_total"] == {frozenset(): 1}
    instruments.takeovers.inc()
    assert scrape(exporter)["byok_lease_takeovers_total"] == {frozenset(): 2}


def test_what_an_ended_process_said_of_a_gauge_is_not_shown(tmp_path: Path, export: Export) -> None:
    exporter = export(tmp_path / "metrics")
    instruments = open_instruments(tmp_path / "metrics")
    instruments.limit_left.labels("anthropic", "tokens").set(5)
    count(tmp_path / "metrics", 1)
    shown = scrape(exporter)["byok_provider_limit_left"]
    assert shown == {labelled(provider="anthropic", limit="tokens"): 5}


def test_two_processes_with_one_process_id_are_told_apart(tmp_path: Path, export: Export) -> None:
    # As in two containers that share the directory.
    first, second = open_instruments(tmp_path), open_instruments(tmp_path)
    first.takeovers.inc(2)
    second.takeovers.inc(3)
    assert scrape(export(tmp_path))["byok_lease_takeovers_total"] == {frozenset(): 5}


def test_a_fork_counts_by_itself(tmp_path: Path, export: Export) -> None:
    forking = """
instruments.takeovers.inc()
if os.fork() == 0:
    instruments.takeovers.inc(10)
    os._exit(0)
os.wait()
instruments.takeovers.inc()
"""
    assert count(tmp_path / "metrics", 1, then=forking) == 0
    shown = scrape(export(tmp_path / "metrics"))["byok_lease_takeovers_total"]
    assert shown == {frozenset(): 12}


@pytest.mark.parametrize("after", ["journal", "rename", "first delete"])
def test_a_merge_that_a_crash_interrupts_counts_nothing_twice(
    tmp_path: Path, export: Export, after: str
) -> None:
    directory = tmp_path / "metrics"
    for _ in range(2):
        count(directory, 2)
    ended = processes._ended(directory)
    processes._write_journal(directory, ended)
    said = json.loads((directory / "merge.journal").read_text())
    if after != "journal":
        (new, final), *_ = said["renames"].items()
        (directory / new).replace(directory / final)
    if after == "first delete":
        for new, final in list(said["renames"].items())[1:]:
            (directory / new).replace(directory / final)
        (directory / said["gone"][0]).unlink()
    assert scrape(export(directory))["byok_events_total"] == {TAKEN: 4}


def test_a_torn_file_hides_no_other(tmp_path: Path, export: Export) -> None:
    directory = tmp_path / "metrics"
    count(directory, 2)
    # Says that it holds more than it does, as after a power cut.
    (directory / "counter_1-torn.db").write_bytes(b"\xff\xff\x00\x00" + b"\x07" * 200)
    assert scrape(export(directory))["byok_events_total"] == {TAKEN: 2}
    assert (directory / "counter_1-torn.torn").exists()


def test_a_process_that_dies_frees_its_identity_whatever_became_of_its_id(tmp_path: Path) -> None:
    held = processes.claim_identity(tmp_path)()
    assert processes._ended(tmp_path) == []
    processes.release(held)
    assert processes._ended(tmp_path) == [held]
    assert held.startswith(f"{os.getpid()}-")


def test_a_child_process_does_not_keep_its_parents_identity(tmp_path: Path) -> None:
    held = processes.claim_identity(tmp_path)()
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], cwd=ROOT, stdin=subprocess.PIPE, close_fds=False
    )
    try:
        processes.release(held)
        assert processes._ended(tmp_path) == [held]
    finally:
        child.communicate(b"\n")
