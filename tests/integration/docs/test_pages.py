"""The documentation: what is generated is fresh, the site builds, what it has typed is there."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events import AnalysisCompleted, Operation, SealingKeys
from events.sealing import seal_text
from tests.benchmarks import capacity_page
from tests.road import fake_key
from workers.analyses.operations.port import Signals
from workers.analyses.operations.thread_state import ThreadState
from workers.analyses.operations.vocabulary import BUILT_IN
from workers.cli.main import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The code of a language on a page, in order."""
    return [code for kind, code in _BLOCK.findall(page.read_text()) if kind == language]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    start = (tmp_path / "site" / "index.html").read_text()
    assert "Bring Your Own Key workers" in start
    # Whoever reads it tells nobody.
    assert not re.search(r'(src|href)="https?://(?!squidfunk|www\.mkdocs)', start)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each `byok` command that a console block has typed, with its page."""
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                for part in re.split(r"[|;]|&&", line.removeprefix("$ ")):
                    try:
                        words = shlex.split(part, comments=True)
                    except ValueError:
                        continue
                    if words and Path(words[0]).name == "byok" and line.startswith("$ "):
                        yield page.name, words[1:]


def test_every_command_that_a_page_has_typed_is_there() -> None:
    typed = list(commands())
    assert len(typed) > 10
    for page, words in typed:
        command: Any = app
        names = [word for word in words if not word.startswith("-")]
        if names[0] == "usage" and names[1] not in ("rebuild", "audit", "reprice"):
            names.insert(1, "card")  # which is what it is without a name
        while hasattr(command, "commands"):
            assert names, (page, words)
            name = names.pop(0)
            assert name in command.commands, (page, words)
            command = command.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        known |= {option for parameter in command.params for option in parameter.secondary_opts}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, (
            page,
            words,
        )


def test_every_make_target_that_a_page_has_typed_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = {name for page in PAGES for name in re.findall(r"`?make ([a-z]+)`?", page.read_text())}
    assert {"demo", "test", "docs", "sbom"} <= typed & targets
    assert {name for name in typed if f"$ make {name}" in _consoles()} <= targets


def _consoles() -> str:
    return "\n".join(block for page in PAGES for block in blocks(page, "console"))


def test_the_page_for_typescript_shows_the_program_that_is_tested() -> None:
    example = ROOT / "deploy" / "clients" / "typescript" / "examples" / "first-analysis.ts"
    assert blocks(ROOT / "docs" / "first-key-typescript.md", "ts") == [example.read_text()]


def test_free_text_is_opened_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (one for one in blocks(ROOT / "docs" / "events.md", "python") if "text_info" in one)
    pair = fake_key(7)
    monkeypatch.setenv("SUBSCRIBER_KEYS", pair)
    public = SealingKeys.parse(pair).current
    sealed = seal_text(b'{"summary": "Lunch?"}', public, account="acme", request_id="r-1")
    given = {
        "account": "acme",
        "data": AnalysisCompleted.model_construct(
            request_id="r-1", operation=Operation.SUMMARIZE, sealed_text=sealed
        ),
    }
    exec(compile(code, "events.md", "exec"), given)  # noqa: S102 -- our own page
    assert given["text"] == {"summary": "Lunch?"}


def test_the_sizes_are_those_of_the_figures() -> None:
    assert capacity_page.document() == capacity_page.PATH.read_text()
    figures = capacity_page.read()
    assert all(figure["what"] and figure["how"] for figure in figures.values())
    assert set(figures) == {name for row in capacity_page.ROWS for name in row.needs} | {
        "rss_mb_per_process"
    }


def test_the_fields_of_results_are_those_that_there_are() -> None:
    page = (ROOT / "docs" / "events.md").read_text()
    for operation, model in (("classify", Signals), ("thread_state", ThreadState)):
        _, _, table = page.partition(f"The `result` of `{operation}`:")
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table.split("\n\n")[1], re.MULTILINE))
        assert set(rows) == set(model.model_fields)
        for kind, meanings in BUILT_IN.items():
            if kind in rows:
                assert all(f"`{key}`" in rows[kind] for key in meanings)


def test_every_other_program_on_a_page_is_python() -> None:
    found = 0
    for page in PAGES:
        for block in blocks(page, "python"):
            ast.parse(block)
            found += 1
    assert found >= 5
