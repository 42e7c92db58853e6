"""Whatever is wrong with an event, no sentence about it holds a piece of what it says."""

import json
import string
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import INCOMING, EventRefused, read_event
from tests.unit.events.samples import event

Path = tuple[str | int, ...]

letters = st.text(string.ascii_letters + string.digits, min_size=12, max_size=40)
secrets = letters.map(lambda body: f"q{body}q")
shaped_like_keys = letters.map(lambda body: f"sk-proj-fake-{body}")


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of everything in a JSON value, the root left out."""
    items = enumerate(value) if isinstance(value, list) else ()
    for name, inner in value.items() if isinstance(value, dict) else items:
        yield (*path, name)
        yield from places(inner, (*path, name))


def put(fields: dict[str, Any], path: Path, value: Any) -> None:
    """Set what is at `path`."""
    *parents, last = path
    into: Any = fields
    for name in parents:
        into = into[name]
    into[last] = value


EVERYWHERE = [(kind, path) for kind in sorted(INCOMING) for path in places(event(kind))]


def hidden(secret: str) -> st.SearchStrategy[Any]:
    """JSON values that hold `secret` in one place or another."""
    return st.sampled_from(
        [
            secret,
            f" {secret}",
            f"{secret}\n",
            f"2026-01-01T12:00:00{secret}",
            f"byok.key.added.v{secret}",
            f"byok.key.added.v1{secret}",
            f"v1.{secret}",
            f"v1.s1.{secret}=",
            [secret],
            {secret: 1},
            {"key": secret},
            {secret: {secret: secret}},
            [{"type": secret, "key": secret, secret: secret}],
            secret * 3_000,
        ]
    )


def tells_nothing_of(raw: str, secret: str) -> None:
    """Read `raw`; if it is refused, neither sentence nor traceback holds the secret."""
    try:
        read_event(raw)
    except EventRefused as refused:
        told = "".join(traceback.format_exception(refused)) + refused.sentence + refused.reason
        assert secret not in told
        assert secret.lower() not in told.lower()


@settings(max_examples=250)
@given(st.data(), st.sampled_from(EVERYWHERE), st.one_of(secrets, shaped_like_keys))
def test_a_secret_in_the_place_of_any_value_is_not_repeated(
    data: st.DataObject, place: tuple[str, Path], secret: str
) -> None:
    kind, path = place
    fields = event(kind)
    put(fields, path, data.draw(hidden(secret)))
    tells_nothing_of(json.dumps(fields), secret)


@settings(max_examples=100)
@given(st.sampled_from(EVERYWHERE), st.one_of(secrets, shaped_like_keys))
def test_a_secret_as_the_name_of_a_field_is_not_repeated(
    place: tuple[str, Path], secret: str
) -> None:
    kind, path = place
    fields = event(kind)
    # Beside the value at `path`, under a name that is the secret.
    put(fields, (*path[:-1], secret) if isinstance(path[-1], str) else path, {secret: secret})
    tells_nothing_of(json.dumps(fields), secret)


@settings(max_examples=60)
@given(secrets, st.integers(0, 400))
def test_a_secret_in_what_is_cut_off_is_not_repeated(secret: str, cut: int) -> None:
    raw = json.dumps(event("byok.key.added.v1", {"sealed_key": secret}))
    tells_nothing_of(raw[:cut], secret)
    tells_nothing_of(raw[cut:], secret)
    tells_nothing_of(secret, secret)


@pytest.mark.parametrize("number", [987_654_321_012_345_678, -987_654_321_012, 98_765.4321])
@pytest.mark.parametrize("path", sorted({p for _, p in EVERYWHERE if p[0] == "data"}, key=str))
def test_a_number_is_not_repeated_either(path: Path, number: float) -> None:
    for kind in sorted(INCOMING):
        fields = event(kind)
        if (kind, path) in EVERYWHERE:
            put(fields, path, number)
            tells_nothing_of(json.dumps(fields), str(number))
