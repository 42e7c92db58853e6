"""Every block of code of every page: typed into a shell beside a `byok up`, in the order of its
page, or run by a test that is named here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.clients.conftest import SOURCE, Client, client
from tests.integration.process.running import ROOT, Up, until

__all__ = ["client"]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTHON_PAGE, TYPESCRIPT_PAGE = "docs/first-key-python.md", "docs/first-key-typescript.md"
CLIENT_PAGE = "deploy/clients/typescript/README.md"

NOT_TYPED = {
    "make demo": "`tests/integration/process/test_demo.py` runs `byok demo`",
    ".venv/bin/byok up": "it runs: the fixture `up` has started it",
    "npm --prefix deploy/clients/typescript ci": "the fixture `client` has done it",
    "npm --prefix deploy/clients/typescript run build": "the fixture `client` has done it",
    "npm ci && npm run build": "the fixture `client` has done it",
    "npm test": "`tests/integration/clients/test_typescript.py` runs it",
    "byok contract write": "it writes into this checkout: `tests/integration/contract`",
    "cd deploy/compose": "Docker's daemon, a cluster and systemd are not here; "
    "`tests/integration/deploy` starts what their files describe",
    "docker compose build": "see `cd deploy/compose`; `make image` builds the image",
    "./secrets.sh": "`tests/integration/deploy/test_files.py` runs it",
    "docker compose up -d --wait": "see `cd deploy/compose`",
    "helm upgrade --install byok deploy/helm/byok --namespace byok --set image.digest=sha256:…": (
        "see `cd deploy/compose`; the chart is rendered"
    ),
    "cp -r deploy/systemd/* /etc/systemd/system/": "see `cd deploy/compose`",
    "systemctl enable --now byok.target": "see `cd deploy/compose`",
    **{
        f"make {target}": "a command for the whole checkout, which runs the tests or is run by them"
        for target in (
            *("test", "bench", "simulate", "crashpoints", "chaos", "mutants", "lint"),
            *("image", "generated", "alerts", "docs", "lock"),
        )
    },
}
"""Commands of pages that are not typed here, and why."""

PROGRAMS = {
    ("ARCHITECTURE.md", ""): "a tree of directories",
    ("docs/security.md", ""): "patterns, and no program",
    ("docs/usage.md", ""): "the first lines of files",
    ("README.md", "mermaid"): "a picture",
    ("docs/events.md", "python"): "below, and `tests/integration/docs/test_pages.py`",
    (PYTHON_PAGE, "python"): "below",
    (TYPESCRIPT_PAGE, "ts"): "the example, which the page has typed; `test_pages.py` compares them",
    (CLIENT_PAGE, "ts"): "below",
}
"""Blocks in other languages than a shell's, and what runs them."""


@dataclass(frozen=True)
class Page:
    """A page and its blocks: language and code."""

    name: str
    blocks: tuple[tuple[str, str], ...]

    def of(self, language: str) -> list[str]:
        """The code in a language, in order."""
        return [code for kind, code in self.blocks if kind == language]

    @property
    def commands(self) -> list[str]:
        """What is typed into a shell, without comments."""
        lines = [line for block in self.of("console") for line in block.splitlines() if line]
        assert all(line.startswith("$ ") for line in lines), self.name
        return [re.sub(r"\s+# .*$", "", line.removeprefix("$ ")).strip() for line in lines]


def pages() -> dict[str, Page]:
    """All pages that are committed, less what comes with packages."""
    found = {}
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), SOURCE / "README.md"):
        name = str(path.relative_to(ROOT))
        found[name] = Page(name, tuple(BLOCK.findall(path.read_text())))
    return found


PAGES = pages()
# `tests/integration/docs/test_backup.py` types what is on it, with a database that it restores.
del PAGES["docs/backup.md"]
TYPED = [name for name, page in PAGES.items() if set(page.commands) - set(NOT_TYPED)]


def test_every_block_is_run_or_said_why_not() -> None:
    assert {PYTHON_PAGE, TYPESCRIPT_PAGE, "README.md"} <= set(TYPED)
    commands = {command for page in PAGES.values() for command in page.commands}
    assert set(NOT_TYPED) - commands == set(), "listed, and on no page any more"
    others = {(page.name, kind) for page in PAGES.values() for kind, _ in page.blocks}
    assert {one for one in others if one[1] != "console"} == set(PROGRAMS)
    assert len(PAGES["docs/events.md"].of("python")) == 2
    for page in PAGES.values():
        fences = re.findall(r"^ *```", (ROOT / page.name).read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(page.blocks), f"{page.name}: a block that is not read"


@pytest.fixture(scope="module")
def shell(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that looks like a checkout with its environment, where `byok up` runs."""
    place = tmp_path_factory.mktemp("checkout")
    programs = place / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, words in (("byok", "-m workers.cli.main"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        program.chmod(0o755)
    for name in ("tests", "deploy"):
        (place / name).symlink_to(ROOT / name)
    (place / ".byok").symlink_to(up.state_dir)
    return place


def typed(place: Path, commands: list[str]) -> str:
    """What a shell prints to which this is typed, and which stops at the first that fails."""
    done = subprocess.run(
        ["/bin/bash", "-e", "-o", "pipefail", "-c", "\n".join(commands)],
        cwd=place,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", TYPED)
def test_what_a_page_has_typed_works(
    name: str, shell: Path, request: pytest.FixtureRequest
) -> None:
    page = PAGES[name]
    commands = [command for command in page.commands if command not in NOT_TYPED]
    if any("node " in command for command in commands):
        request.getfixturevalue("client")
    if not any("export PATH" in command for command in commands):
        # A page that begins where another one has ended.
        commands = [*PAGES[PYTHON_PAGE].commands[2:5], *commands]
    for program in re.findall(r"python (\w+\.py)", " ".join(commands)):
        (shell / program).write_text("\n".join(page.of("python")))
    printed = typed(shell, commands)
    assert '"type":"byok.analysis.completed.v1"' in printed or "first" not in name


def test_the_python_page_ends_with_a_key_that_is_valid_and_used(shell: Path, up: Up) -> None:
    # Of another account: the same mail again would be answered without a call.
    program = "\n".join(PAGES[PYTHON_PAGE].of("python")).replace("first-account", "other-account")
    (shell / "again.py").write_text(program)
    environment = PAGES[PYTHON_PAGE].commands[2:5]
    told = typed(shell, [*environment, "echo sk-proj-sandbox-anything-again | python again.py"])
    *verdicts, completed = told.splitlines()
    assert verdicts == ["The key is pending ", "The key is valid ok"]
    assert json.loads(completed)["type"] == "byok.analysis.completed.v1"
    (key,) = up.json("keys", "show", "other-account")["keys"]
    assert (key["status"], key["last4"]) == ("valid", "gain")
    until(
        lambda: (
            up.json("keys", "show", "other-account")["keys"][0]["requests"] == 1
            and up.json("usage", "other-account")["operations"] == 1
        ),
        "the request is counted",
    )
    refused = "echo sk-proj-sandbox-invalid-key-goes-here | python again.py"
    assert "The key is invalid " in typed(shell, [*environment, refused])


def test_a_key_is_published_as_the_event_page_says(shell: Path, up: Up) -> None:
    up.road.account("acme")
    (code,) = (one for one in PAGES["docs/events.md"].of("python") if "KeyAdded" in one)
    given = "import sys\npasted = sys.stdin.readline().strip()\n"
    revised = code.replace("revision=7", f"revision={up.road.revision()}")
    (shell / "publish.py").write_text(given + revised)
    typed(shell, [*PAGES[PYTHON_PAGE].commands[2:5], "echo sk-x | python publish.py"])
    keys = up.json("keys", "show", "acme")["keys"]
    assert "key-1" in {key["key_id"] for key in keys}


def test_the_clients_page_shows_a_program_that_compiles_and_publishes(
    client: Client, shell: Path, up: Up
) -> None:
    (code,) = PAGES[CLIENT_PAGE].of("ts")
    up.road.account("from-typescript")
    place = shell / "program"
    modules = place / "node_modules"
    modules.mkdir(parents=True)
    (modules / "byok-client").symlink_to(SOURCE)
    (modules / "@types").symlink_to(SOURCE / "node_modules" / "@types")
    (place / "package.json").write_text('{"type": "module"}')
    (place / "tsconfig.json").write_text(
        json.dumps(
            {
                "extends": str(SOURCE / "tsconfig.json"),
                "compilerOptions": {"rootDir": ".", "outDir": "built"},
                "include": ["*.ts"],
            }
        )
    )
    revised = code.replace("revision: 7", f"revision: {up.road.revision()}")
    (place / "program.ts").write_text(
        revised.replace('"acme"', '"from-typescript"').replace("key-1", "key-2")
    )
    compiler = shutil.which("tsc", path=SOURCE / "node_modules" / ".bin")
    assert compiler is not None
    run = f"echo sk-proj-sandbox-anything-goes-here | {client.node} built/program.js"
    typed(shell, [*PAGES[PYTHON_PAGE].commands[2:5], "cd program", f"{compiler} --project .", run])
    (key,) = up.json("keys", "show", "from-typescript")["keys"]
    assert key["last4"] == "here"
