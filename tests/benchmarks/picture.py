"""The measured throughput as bars: what each contender does of the bare loop's work."""

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.rounds import Rounds

FIGURES = ("analyses/s", "CPU ms/analysis")


def draw(path: Path, measured: Sequence[Rounds]) -> None:
    """Write an SVG: a row a measurement, a column a figure, whiskers from least to most."""
    import matplotlib as mpl  # noqa: PLC0415 -- an optional extra

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- as above, and once its backend is chosen

    shown = [one for one in measured if all(name in _names(one) for name in FIGURES)]
    if not shown:
        return
    mpl.rcParams["svg.hashsalt"] = "byok"
    figure, axes = plt.subplots(
        len(shown), len(FIGURES), figsize=(11, 1.2 + 1.9 * len(shown)), squeeze=False
    )
    for row, one in zip(axes, shown, strict=True):
        for axis, name in zip(row, FIGURES, strict=True):
            spreads = {who: one.spread(who, name) for who in one.figures}
            told = [(who, spread) for who, spread in spreads.items() if spread is not None]
            medians = [spread.median for _, spread in told]
            errors = [
                [spread.median - spread.least for _, spread in told],
                [spread.most - spread.median for _, spread in told],
            ]
            axis.barh([who for who, _ in told], medians, xerr=errors, color="#4c78a8", capsize=3)
            axis.invert_yaxis()
            axis.set_title(f"{one.title}: {name}", fontsize=9)
            axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _names(one: Rounds) -> set[str]:
    return {name for figures in one.figures.values() for name in figures}
