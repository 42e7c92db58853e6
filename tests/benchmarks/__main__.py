"""`make bench`: every figure beside its limit and its peers, in the same run."""

import argparse
import os
from pathlib import Path

from tests.benchmarks import costs, delay, fairness, growth, throughput, usage_at_scale
from tests.benchmarks.picture import draw
from tests.benchmarks.rounds import Rounds, machine, write_json
from tests.benchmarks.throughput import Size

LIMIT = "bare AsyncOpenAI loop"
PARTS = ("fairness", "throughput", "delay", "costs", "growth", "usage")


def main() -> None:
    """Measure what was asked for, print tables, write `bench.json` and `bench.svg`."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        default=["fairness", "throughput", "delay", "costs"],
        help=", ".join(PARTS),
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each contender, in turns")
    parser.add_argument("--count", type=int, default=3_000, help="analyses a round of throughput")
    parser.add_argument("--largest", type=int, default=10_000, help="bound of growth")
    parser.add_argument("--no-peers", action="store_true", help="only the limit and this road")
    parser.add_argument("--out", type=Path, default=Path(), help="where the files are written")
    options = parser.parse_args()
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    measured: list[Rounds] = []
    if "usage" in options.parts:
        usage_at_scale.main([])
    if "fairness" in options.parts:
        fairness.main([])
    if "throughput" in options.parts:
        sizes = [Size(1, 256, options.count), Size(2, 256, options.count)]
        stands = [("postgresql", sizes[0]), ("postgresql", sizes[1]), ("sqlite", sizes[0])]
        for kind, size in stands:
            peers = not options.no_peers
            measured.append(throughput.measure(kind, size, rounds=options.rounds, peers=peers))
    if "delay" in options.parts:
        amqp = os.environ.get("BYOK_TEST_AMQP_URL")
        measured.append(delay.measure("postgresql", rounds=options.rounds, amqp=amqp))
    if "costs" in options.parts:
        measured += costs.measure("postgresql", rounds=options.rounds)
    if "growth" in options.parts:
        measured += growth.measure("postgresql", rounds=1, largest=options.largest)
    for one in measured:
        print(one.table(beside=LIMIT if LIMIT in one.figures else next(iter(one.figures))))
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "bench.json", measured)
    draw(options.out / "bench.svg", measured)


if __name__ == "__main__":
    main()
