"""No core dumps: what lies in the memory of these processes are other people's keys."""

import resource
import sys

REFUSED_TO_PIPES_TOO = 1
"""Linux writes no core where the limit is 1 byte, neither to a file nor to a program that takes
cores (systemd-coredump, apport): such a program gets one in spite of the limit 0.
Source: fs/coredump.c, "RLIMIT_CORE is set to 1, aborting core"."""


def forbid() -> None:
    """Let this process and its children leave no core dump; nobody but root can undo it."""
    limit = REFUSED_TO_PIPES_TOO if sys.platform == "linux" else 0
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
