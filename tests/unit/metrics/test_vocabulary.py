"""The labels' sets name what the code says: whoever adds a word to one adds it to the other."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from events import KeyStatus, Operation, Provider
from events.broker import actor_of
from events.contract.refusals import REFUSALS, Teller
from events.registry import INCOMING, QUEUES
from metrics import labels
from store import outbox
from workers.analyses.actors import RESUME_ACTOR, TAKE_IN_ACTOR
from workers.keys.validation import VALIDATE_ACTOR
from workers.pacing.permits import Turn
from workers.providers.codes import Code, Reason
from workers.providers.port import OutcomeClass
from workers.providers.shape import ShapeProblem
from workers.queues import VALIDATIONS_QUEUE
from workers.scheduler import SWEEPS
from workers.usage.aggregate import CONFLICT, EXPIRED

ROOT = Path(__file__).parents[3]
WORD = re.compile(r"[a-z][a-z_]+")


@cache
def parsed() -> dict[Path, ast.Module]:
    """The modules that give reasons."""
    paths = (*(ROOT / "workers").rglob("*.py"), *(ROOT / "store").glob("*.py"))
    return {path: ast.parse(path.read_text()) for path in paths}


def words_given_to(*functions: str) -> Iterator[tuple[str, str]]:
    """The words that the workers' code gives to calls of `functions`, with their place.

    A name stands for the constant that it names in any module.
    """
    trees = parsed()
    constants: dict[str, str] = {}
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for target in node.targets:
                    if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                        constants[target.id] = node.value.value
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) in functions:
                given = (*node.args, *(keyword.value for keyword in node.keywords))
                for argument in given:
                    word = _word(argument, constants)
                    if word is not None:
                        yield word, f"{path.relative_to(ROOT)}:{node.lineno}"


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _word(argument: ast.expr, constants: dict[str, str]) -> str | None:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value if WORD.fullmatch(argument.value) else None
    if isinstance(argument, ast.Attribute | ast.Name):
        return constants.get(_name(argument))
    return None


@pytest.mark.parametrize(
    ("label", "functions"),
    [
        (labels.PARK_REASON, ("park", "Again", "AgainAfterVerdict", "Hold")),
        (labels.END_REASON, ("fail", "skip", "GiveUp", "Refuse")),
        (labels.REFUSED, ("EventRefused",)),
        (labels.KEY_REASON, ("announce_use",)),
        (labels.CALL_REASON, ("_not_sent",)),
    ],
    ids=lambda given: given.name if isinstance(given, labels.Label) else given[0],
)
def test_a_reason_that_the_code_gives_is_named(
    label: labels.Label, functions: tuple[str, ...]
) -> None:
    words = list(words_given_to(*functions))
    unnamed = [(word, place) for word, place in words if word not in label.values]
    assert not unnamed, "add these to metrics/labels.py, and run `python -m metrics.document`"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (labels.QUEUE, {*QUEUES, VALIDATIONS_QUEUE}),
        (labels.PROVIDER, set(Provider)),
        (labels.OPERATION, {*Operation, "probe"}),
        (labels.EVENT_TYPE, {*INCOMING, VALIDATE_ACTOR, RESUME_ACTOR, "unread"}),
        (
            labels.ACTOR,
            {
                *map(actor_of, QUEUES),
                *(VALIDATE_ACTOR, RESUME_ACTOR, TAKE_IN_ACTOR, "unreadable_message"),
            },
        ),
        (labels.KEY_STATUS, set(KeyStatus)),
        (labels.OUTCOME_CLASS, set(OutcomeClass)),
        (labels.OUTBOX_KIND, {outbox.USAGE, outbox.EVENT, outbox.REWRITE}),
        (labels.SWEEP, {sweep.__name__ for sweep in SWEEPS}),
        (labels.TURN, set(Turn)),
        (
            labels.REFUSED,
            {r.reason for r in REFUSALS if r.by is not Teller.PUBLISHER} | {CONFLICT, EXPIRED},
        ),
    ],
    ids=lambda given: given.name if isinstance(given, labels.Label) else "",
)
def test_a_set_is_the_vocabulary_of_the_code(label: labels.Label, words: set[str]) -> None:
    assert label.values == {str(word) for word in words}


def test_every_code_of_a_provider_and_every_reason_of_a_key_is_named() -> None:
    assert {str(code) for code in Code} - {labels.OTHER} <= labels.CALL_REASON.values
    assert {str(word) for word in (*Reason, *ShapeProblem)} <= labels.KEY_REASON.values


def test_a_failure_counts_against_us_unless_it_is_the_users_to_mend() -> None:
    assert labels.verdict_of("completed", "") == "good"
    assert labels.verdict_of("skipped", "consent") == "excused"
    assert labels.END_REASON.values > labels.USERS_OWN
    bad = {r for r in labels.END_REASON.values if labels.verdict_of("failed", r) == "bad"}
    assert bad == labels.END_REASON.values - labels.USERS_OWN
