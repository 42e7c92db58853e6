"""`byok healthcheck`: asks the roles on this machine how they are; the probe of a container.

It loads nothing of the system, since it is run every few seconds.
"""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from workers.addresses import processes_of, told_by
from workers.cli.guard import Refusal


class Role(StrEnum):
    """The roles that answer probes."""

    WORKER = "worker"
    SCHEDULER = "scheduler"
    EXPORTER = "exporter"


def healthcheck(
    role: Annotated[Role, typer.Argument(help="worker, scheduler or exporter.")],
    *,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it is ready, not only alive.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="How long to wait, in seconds.")] = 5,
    state_dir: Annotated[
        Path, typer.Option(envvar="BYOK_STATE_DIR", help="Where the roles keep their files.")
    ] = Path(".byok"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout.")
    ] = False,
) -> None:
    """Ask a role on this machine whether it is alive; exit 1 if not, or if none runs.

    Example: `byok healthcheck worker --ready`. Several processes of a role must all be well.
    """
    path = "/readyz" if ready else "/livez"
    found = [told_by(pid, url, path, timeout) for pid, url in processes_of(state_dir, role.value)]
    wrong = [
        f"process {one['pid']}: "
        + "; ".join(f"{part} {what}" for part, what in one["wrong"].items())
        for one in found
        if not one["ok"]
    ]
    ok = bool(found) and not wrong
    if as_json:
        told = {"role": role.value, "ok": ok, "processes": found}
        sys.stdout.write(json.dumps(told) + "\n")
    elif ok:
        sys.stdout.write(f"{role.value}: {'ready' if ready else 'alive'}\n")
    if not found:
        raise Refusal(f"No {role.value} runs here under {state_dir}: start `byok {role.value}`.")
    if wrong:
        raise Refusal(f"The {role.value} is not {'ready' if ready else 'alive'}: {wrong[0]}.")
