"""`byok top`: one look at the system, told and drawn."""

from pathlib import Path

import pytest

from events import ProviderChoice
from tests.commands import Shell
from tests.road import Road
from workers.cli.top.counted import Counted, Since
from workers.queues import ALL_QUEUES

one_road = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
QUICK = ("--interval", "0.1")


@one_road
def test_one_look_tells_of_queues_analyses_keys_and_pauses(road: Road, shell: Shell) -> None:
    road.account()
    road.give_key()
    shell.byok("pause", "provider", "openai", "--note", "incident 7")
    road.until(lambda: road.worker_app.pauses.known.providers)
    held = road.ask(provider=ProviderChoice.OPENAI)
    road.until(lambda: (r := road.request(held)) is not None and r.reason == "paused_openai")
    shell.byok("pause", "queue", "usage")
    told = shell.byok("top", "--json", *QUICK).object
    assert told["away"] == {}
    assert told["processes"] == {"worker": 1, "scheduler": 1}
    assert [one["queue"] for one in told["queues"]] == list(ALL_QUEUES)
    assert [one["queue"] for one in told["queues"] if one["paused"]] == ["usage"]
    assert told["analyses"]["waiting"] == {"paused_openai": 1}
    assert told["keys"] == [{"provider": "openai", "status": "valid", "reason": "ok", "keys": 1}]
    providers = {one["provider"]: one for one in told["providers"]}
    assert (providers["openai"]["paused"], providers["openai"]["breaker"]) == (True, "closed")
    assert [one["requests_waiting"] for one in told["pauses"]] == [1, 0]
    # No exporter runs here, so there are no rates; everything else is seen without it.
    assert told["counted_from"] is None
    assert providers["openai"]["calls_per_second"] is None


@one_road
def test_where_the_output_is_no_terminal_one_look_is_drawn(road: Road, shell: Shell) -> None:
    done = shell.byok("top", *QUICK)
    assert (done.code, done.err) == (0, "")
    for heading in ("Queues", "Providers", "Analyses", "Keys", "Lag"):
        assert heading in done.out
    assert "\x1b" not in done.out


@one_road
def test_what_is_away_is_told_and_the_rest_is_shown(road: Road, shell: Shell) -> None:
    road.account()
    road.give_key()
    told = shell.byok("top", "--json", *QUICK, BYOK_BROKER_URL="redis://127.0.0.1:1").object
    assert told["away"] == {"broker": "BrokerAway"}
    assert told["queues"][0]["waiting"] is None
    assert told["keys"]
    drawn = shell.byok("top", *QUICK, BYOK_BROKER_URL="redis://127.0.0.1:1")
    assert "broker cannot be reached" in drawn.out


@one_road
def test_a_look_is_written_as_a_picture(road: Road, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "top.svg"
    done = shell.byok("top", "--svg", str(file), *QUICK)
    assert (done.code, done.out) == (0, "")
    drawn = file.read_text()
    assert drawn.startswith("<svg")
    # It loads nothing from elsewhere.
    assert "url(" not in drawn.replace("url(#", "")
    nowhere = shell.byok("top", "--svg", str(tmp_path / "no" / "top.svg"), *QUICK)
    assert nowhere.code == 1
    assert "cannot be written" in nowhere.err


def counted(at: float, **totals: float) -> Counted:
    return Counted(at, {(name, frozenset({("queue", "keys")})): n for name, n in totals.items()})


def test_rates_are_of_the_time_between_two_looks() -> None:
    since = Since(
        counted(10, calls=5, s_count=1, s_sum=3), counted(12, calls=11, s_count=3, s_sum=4)
    )
    assert since.per_second("calls") == 3
    assert since.per_second("calls", queue="keys") == 3
    assert since.per_second("calls", queue="usage") == 0
    assert since.mean("s") == 0.5
    # A role that was started again counts from 0.
    assert Since(counted(1, calls=9), counted(2, calls=1)).per_second("calls") == 0
    assert Since(Counted(1), counted(2, calls=1)).per_second("calls") is None
    assert since.mean("t") is None
