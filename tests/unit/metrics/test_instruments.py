"""Instruments: named by the product, labelled from closed sets, bounded whatever comes."""

import random
import tracemalloc
from itertools import product

import pytest
from prometheus_client import Gauge, Histogram

from metrics import gauges
from metrics.bounded import SERIES_LIMIT, Bounded
from metrics.document import PATH, document, names_and_labels
from metrics.instruments import Instruments, open_instruments
from workers.pricing import priced_models


def series(instruments: Instruments) -> int:
    """How many series the instruments show; a bucket is one."""
    shown = 0
    for made in instruments.all():
        for family in made.instrument.collect():
            shown += sum(not sample.name.endswith("_created") for sample in family.samples)
    return shown


def use(made: Bounded, *values: str) -> None:
    child = made.labels(*values)
    match child:
        case Histogram():
            child.observe(1.0)
        case Gauge():
            child.set(1.0)
        case _:
            child.inc()


def test_two_sets_of_instruments_in_one_process_do_not_hinder_each_other() -> None:
    first, second = open_instruments(None), open_instruments(None)
    first.takeovers.inc()
    (family,) = second.takeovers.instrument.collect()
    assert family.samples[0].value == 0


def test_a_value_that_its_set_does_not_name_is_counted_as_other_and_told() -> None:
    instruments = open_instruments(None)
    instruments.parked.labels("rate_limited").inc()
    for reason in ("acme", "key_7f3a", "sk-proj-not-a-real-key"):
        instruments.parked.labels(reason).inc()
    shown = {
        sample.labels["reason"]: sample.value
        for family in instruments.parked.instrument.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert {name: count for name, count in shown.items() if count} == {
        "rate_limited": 1,
        "other": 3,
    }
    assert instruments.replaced.labels("byok_analyses_parked_total")._value.get() == 3


def test_an_empty_value_is_none() -> None:
    instruments = open_instruments(None)
    counted = instruments.analyses.labels("classify", "completed", "", "byok", "model")
    assert counted is instruments.analyses.labels("classify", "completed", "none", "byok", "model")


def test_too_few_values_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="byok_analyses_parked_total has 1 labels, not 2"):
        open_instruments(None).parked.labels("rate_limited", "openai")


def test_a_hundred_thousand_accounts_and_ten_thousand_junk_models_leave_2000_series() -> None:
    instruments = open_instruments(None, priced_models())
    chance = random.Random(7)  # noqa: S311 -- chance, not a secret
    models = [f"junk-{number}" for number in range(10_000)]
    for number in range(100_000):
        account = f"account-{number}"
        made = chance.choice(instruments.all())
        use(made, *(chance.choice((account, f"key-{number}")) for _ in made.label_sets))
    for model in models:
        instruments.tokens.labels("openai", model, "byok", "input").inc()
        instruments.cost.labels("openai", model, "byok").inc()
    assert series(instruments) <= SERIES_LIMIT
    junk = instruments.tokens.labels("openai", "other", "byok", "input")._value.get()
    assert junk == len(models)


def test_every_combination_of_known_values_leaves_2000_series_too() -> None:
    instruments = open_instruments(None, priced_models())
    for made in instruments.all():
        for values in product(*(sorted(label.values) for label in made.label_sets)):
            use(made, *values)
    assert series(instruments) <= SERIES_LIMIT
    assert instruments.budget.made <= SERIES_LIMIT


def test_junk_takes_no_memory() -> None:
    instruments = open_instruments(None)
    instruments.parked.labels("junk").inc()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(20_000):
        instruments.parked.labels(f"junk-{number}").inc()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000


def test_a_counter_with_few_series_shows_them_before_the_first_is_counted() -> None:
    (family,) = open_instruments(None).vault_failures.instrument.collect()
    shown = {s.labels["reason"]: s.value for s in family.samples if s.name.endswith("_total")}
    assert shown == {"DoesNotOpen": 0, "MasterKeyMissing": 0, "MasterKeyUnavailable": 0}


def test_names_are_the_products_and_labels_tell_of_nobody() -> None:
    for name, labels in names_and_labels().items():
        assert name.startswith("byok_"), name
        told = {label.name for label in labels}
        assert not told & {"account", "key", "key_id", "event_id", "request_id"}, name


def test_a_gauge_adds_up_what_its_sets_do_not_name() -> None:
    read = gauges.KEYS.of({("openai", "valid", "ok"): 2, ("x", "y", ""): 3, ("x", "z", ""): 4})
    assert read.samples == {("openai", "valid", "ok"): 2, ("other", "other", "none"): 7}


def test_the_documented_metrics_are_those_that_there_are() -> None:
    assert PATH.read_text() == document(), "run `python -m metrics.document`"
