"""A key that is given wrongly at the command line."""

import os
import subprocess
import sys

import pytest

from tests.commands import Shell
from tests.road import Road


@pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "No key was given: type it at the prompt, or pipe it in."),
        (b"\x89PNG\xff\xfe", "What was given is not text: that is no key."),
        (b"k" * 30_000, "What was given is longer than 20,000 characters: that is no key."),
    ],
)
def test_what_is_no_key_is_refused_in_one_sentence(
    given: bytes, says: str, road: Road, shell: Shell
) -> None:
    road.account()
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "keys", "add", "acme", "openai"],
        env={**os.environ, **shell.environment},
        input=given,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"byok: {says}\n"
