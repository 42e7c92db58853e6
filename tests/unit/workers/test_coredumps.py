"""A process that dies leaves nothing of its memory on the disk."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("forbidden", [True, False])
def test_a_process_that_aborts_leaves_no_core(tmp_path: Path, *, forbidden: bool) -> None:
    code = (
        f"import os; from workers import coredumps; {forbidden} and coredumps.forbid(); os.abort()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=_let_cores_be,  # noqa: PLW1509 -- no threads of ours hold a lock here
    )
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    assert os.WIFSIGNALED(status)
    if forbidden:
        assert not os.WCOREDUMP(status)
        assert list(tmp_path.iterdir()) == []
    elif not os.WCOREDUMP(status):
        pytest.skip("this machine writes no core dumps anyway")


def _let_cores_be() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
