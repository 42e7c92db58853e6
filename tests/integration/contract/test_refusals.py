"""The list of refusals is that of the code: every reason, every sentence."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import events
import workers
from events.contract import REFUSALS, Vectors

PLACEHOLDER = re.compile(r"\{[^}]*\}")


def raised() -> Iterator[tuple[str, str | None]]:
    """Reason and sentence of each `EventRefused` in the code; no sentence where it is computed."""
    for package in (events, workers):
        for file in sorted(Path(package.__path__[0]).rglob("*.py")):
            for call in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id == "EventRefused"
                ):
                    reason, sentence = call.args
                    assert isinstance(reason, ast.Constant), f"a computed reason in {file}"
                    yield str(reason.value), template(sentence)


def template(sentence: ast.expr) -> str | None:
    """A sentence with `{}` for what differs."""
    if isinstance(sentence, ast.Constant):
        return str(sentence.value)
    if isinstance(sentence, ast.JoinedStr):
        parts = [
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in sentence.values
        ]
        return "".join(parts)
    return None


def test_every_refusal_in_the_code_is_on_the_list_with_its_sentence() -> None:
    listed = {(one.reason, PLACEHOLDER.sub("{}", one.sentence)) for one in REFUSALS}
    written = {(reason, sentence) for reason, sentence in raised() if sentence is not None}
    computed = {reason for reason, sentence in raised() if sentence is None}
    assert written <= listed
    assert {reason for reason, sentence in listed - written} == computed


def test_the_vectors_are_refused_with_sentences_from_the_list(vectors: Vectors) -> None:
    forms = [
        (one.reason, re.compile(".+".join(map(re.escape, PLACEHOLDER.split(one.sentence)))))
        for one in REFUSALS
    ]
    for vector in (*vectors["events_refused"], *vectors["sealing_refused"]):
        assert any(
            reason == vector["reason"] and form.fullmatch(vector["sentence"])
            for reason, form in forms
        ), vector["name"]


def test_a_sentence_says_what_is_wrong_and_never_shows_a_value() -> None:
    for one in REFUSALS:
        assert one.sentence.endswith(".")
        assert re.fullmatch(r"[a-z_]+", one.reason)
        assert not set(PLACEHOLDER.findall(one.sentence)) & {"{value}", "{data}", "{text}"}
