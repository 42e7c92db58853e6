"""Logs: structured, to stderr, readable on a terminal and JSON elsewhere, with a last net.

The net removes what looks like a provider key. It is the last one: nothing that logs is given a
key to begin with.
"""

import logging
import sys
from typing import Any

import structlog
from rich.console import Console

from events.redaction import redact

QUIET = ("openai", "anthropic", "httpx2", "httpcore2", "aiohttp", "asyncio", "alembic")
"""Libraries whose debug logs hold prompts, headers or noise: warnings only, whatever our level."""


def set_up(level: str) -> None:
    """Configure logging for this process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Any] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    if sys.stderr.isatty():
        rendering = [
            structlog.dev.ConsoleRenderer(
                # As every command: none where NO_COLOR is set, or the terminal has none.
                colors=not Console(stderr=True).no_color,
                # Not the one that shows the values of variables.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendering,
                # Last: what is written is one text, wherever in it a value stood.
                _redact_line,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # A line that cannot be written (stderr is gone) would else be told with a traceback of its
    # own, past the net, and of whatever exception was being handled.
    logging.raiseExceptions = False
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs messages with their arguments; what goes wrong is told by `workers.boundary` and
    # `workers.broker`, without them.
    logging.getLogger("dramatiq").setLevel(logging.CRITICAL)
    # A broker that is away takes it ten lines and a traceback; whoever asked tells it in one.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def _redact_line(_logger: Any, _method: str, line: Any) -> str:
    return redact(line)
