"""Reads PromQL and tells what in it does not fit the metrics that are exported."""

from collections.abc import Mapping
from typing import Any

import promql_parser as promql

from metrics.bounded import BoundedHistogram
from metrics.document import names_and_labels
from metrics.instruments import open_instruments
from metrics.labels import OTHER, Label

LABELS_OF_PROMETHEUS = frozenset({"instance", "job"})
SCALAR = None
"""The labels of what has no series."""

Labels = frozenset[str] | None
Values = Mapping[str, frozenset[str] | None]
"""The values of each label; `None` where any is fine."""


def _of(labels: tuple[Label, ...], **more: frozenset[str] | None) -> Values:
    told = {label.name: (label.values | {OTHER}) or None for label in labels}
    # The names of models, and of versions, are not in a set of ours.
    return {
        **{name: None if values == {OTHER} else values for name, values in told.items()},
        **dict.fromkeys(LABELS_OF_PROMETHEUS),
        **more,
    }


def exported() -> dict[str, Values]:
    """The labels of each series on the page and of Prometheus' own, by its name."""
    series: dict[str, Values] = {
        "up": _of((Label("job", frozenset({"byok"})),)) | {"job": frozenset({"byok"})},
        "ALERTS": dict.fromkeys(("alertname", "alertstate", "severity")),
    }
    for name, labels in names_and_labels().items():
        series[name] = _of(labels)
    for made in open_instruments(None).all():
        if isinstance(made, BoundedHistogram):
            del series[made.name]
            bounds = frozenset(str(bound) for bound in made.instrument._upper_bounds)
            series[f"{made.name}_bucket"] = _of(made.label_sets, le=bounds)
            series[f"{made.name}_sum"] = series[f"{made.name}_count"] = _of(made.label_sets)
    return series


class Checker:
    """Checks expressions against `series`; `problems` has what was found."""

    def __init__(self, series: Mapping[str, Values]) -> None:
        self.series = dict(series)
        self.problems: list[str] = []

    def check(self, expr: str) -> Labels:
        """The labels of what `expr` gives. Raises `ValueError` where it is no PromQL."""
        return self._labels(promql.parse(expr.replace("$__rate_interval", "5m")))

    def record(self, name: str, expr: str) -> None:
        """Note a recording rule, so that others may read it."""
        labels = self.check(expr)
        assert labels is not SCALAR, name
        self.series[name] = dict.fromkeys(labels)

    def _labels(self, node: Any) -> Labels:
        match node:
            case promql.VectorSelector():
                return self._selected(node)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.ParenExpr() | promql.UnaryExpr():
                return self._labels(node.expr)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.BinaryExpr():
                return self._combined(node)
            case promql.Call():
                return self._called(node)
            case promql.NumberLiteral() | promql.StringLiteral():
                return SCALAR
            case _:
                raise ValueError(f"{type(node).__name__} is not used here")

    def _selected(self, node: Any) -> Labels:
        known = self.series.get(node.name)
        if known is None:
            self.problems.append(f"no such metric: {node.name}")
            return frozenset()
        for matcher in node.matchers.matchers:
            if matcher.name not in known:
                self.problems.append(f"{node.name} has no label {matcher.name}")
                continue
            values = known[matcher.name]
            told = matcher.value.split("|")
            unknown = [] if values is None else [value for value in told if value not in values]
            if unknown:
                self.problems.append(f"{node.name}: {matcher.name} is never {unknown}")
        return frozenset(known)

    def _aggregated(self, node: Any) -> Labels:
        inner = self._labels(node.expr) or frozenset()
        if node.modifier is None:
            return frozenset()
        assert node.modifier.type is promql.AggModifierType.By, "only `by` is used here"
        wanted = frozenset(node.modifier.labels)
        for label in wanted - inner:
            self.problems.append(f"{node.prettify()}: there is no label {label}")
        return wanted

    def _combined(self, node: Any) -> Labels:
        left, right = self._labels(node.lhs), self._labels(node.rhs)
        if left is SCALAR or right is SCALAR:
            return left if right is SCALAR else right
        if left != right and str(node.op) != "or":
            self.problems.append(f"{node.prettify()}: {set(left)} never match {set(right)}")
        return left

    def _called(self, node: Any) -> Labels:
        given = [labels for labels in map(self._labels, node.args) if labels is not SCALAR]
        if node.func.name in {"time", "scalar"}:
            return SCALAR
        if node.func.name == "absent":
            return frozenset()
        if node.func.name == "histogram_quantile":
            if "le" not in given[0]:
                self.problems.append(f"{node.prettify()}: without le there is no quantile")
            return given[0] - {"le"}
        return given[0]
