"""The sandbox as a process of its own."""

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from deploy.local.sandbox.server import HOST, serving
from deploy.local.sandbox.state import Sandbox

BANNER = (
    "provider sandbox at {}: this is not a model. It computes its answers by plain rules, "
    "on this machine, and charges nobody."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or, if so asked, the end of stdin. Gives the exit code."""
    options = _parser().parse_args(arguments)
    # Every connection is a file, and a benchmark opens thousands.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(_serve(options))
    except OSError as error:
        print(f"provider sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.sandbox",
        description="Speak OpenAI's and Anthropic's APIs on this machine, without a model.",
    )
    parser.add_argument("--port", type=int, default=0, help=f"on {HOST}; 0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds a completion takes")
    parser.add_argument(
        "--record", type=Path, help="a file to which each request is added, without its key"
    )
    parser.add_argument("--ready-file", type=Path, help="gets the base URL once it is served")
    parser.add_argument(
        "--stop-on-stdin-eof",
        action="store_true",
        help="stop when stdin ends, as it does when the parent dies",
    )
    return parser


async def _serve(options: argparse.Namespace) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.stop_on_stdin_eof:
        watch = threading.Thread(target=_await_end_of_stdin, args=(loop, stop), daemon=True)
        watch.start()
    sandbox = Sandbox(latency=options.latency, record=options.record)
    async with serving(sandbox, options.port) as url:
        print(BANNER.format(url), file=sys.stderr, flush=True)
        if options.ready_file is not None:
            _write_whole(options.ready_file, url)
        await stop.wait()
    if options.ready_file is not None:
        options.ready_file.unlink(missing_ok=True)


def _await_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # By the descriptor: a thread that waits in `sys.stdin` would block the interpreter's exit.
    with contextlib.suppress(OSError):  # A stdin that is closed has ended, too.
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # The loop is closed: it is stopping already.
        loop.call_soon_threadsafe(stop.set)


def _write_whole(path: Path, text: str) -> None:
    """Write `text` so that a reader never sees half of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
