"""How the road's throughput grows: with processes, with what is queued, and with accounts."""

from collections.abc import Callable, Mapping
from functools import partial

from tests.benchmarks import throughput
from tests.benchmarks.rounds import Rounds
from tests.benchmarks.throughput import Size

IN_FLIGHT = 256


def measure(kind: str, *, rounds: int, largest: int) -> list[Rounds]:
    """Each axis by itself; `largest` bounds the number of requests and of accounts."""
    by_processes = Rounds(f"Growth on {kind}: processes")
    by_processes.run(
        {str(n): partial(throughput.our_road, kind, Size(n, IN_FLIGHT, 2_000)) for n in (1, 2, 4)},
        rounds=rounds,
    )
    by_queue = Rounds(f"Growth on {kind}: requests queued")
    by_queue.run(_sizes(kind, largest, 1_000, lambda n: Size(1, IN_FLIGHT, n)), rounds=rounds)
    by_accounts = Rounds(f"Growth on {kind}: accounts")
    counts = [n for n in (100, 1_000, 10_000, 100_000) if n <= largest]
    by_accounts.run(
        {
            f"{n:,}": partial(
                throughput.our_road, kind, Size(1, IN_FLIGHT, max(2_000, n)), accounts=n
            )
            for n in counts
        },
        rounds=rounds,
    )
    return [by_processes, by_queue, by_accounts]


def _sizes(
    kind: str, largest: int, least: int, size: Callable[[int], Size]
) -> dict[str, Callable[[], Mapping[str, float]]]:
    counts, count = [], least
    while count <= largest:
        counts.append(count)
        count *= 10
    return {f"{n:,}": partial(throughput.our_road, kind, size(n)) for n in counts}
