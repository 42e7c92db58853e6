"""`byok up` and each role alone."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from workers import logs
from workers.app import App
from workers.cli.console import StopOnEof, emit_json, err, open_app
from workers.settings import ConfigurationError, Settings
from workers.supervisor import Supervisor, stop_on_signals

if TYPE_CHECKING:
    from workers.probes import Probes

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout once it has started.")
]


@contextmanager
def _probed(app: App) -> Iterator["Probes"]:
    """Answer probes for as long as the role runs."""
    from workers.probes import Probes  # noqa: PLC0415 -- loads what `up` does not need

    settings = app.settings
    try:
        probes = Probes(
            app.health, settings.state_dir, host=settings.health_host, port=settings.health_port
        )
    except OSError as error:
        raise ConfigurationError(
            f"BYOK_HEALTH_HOST and BYOK_HEALTH_PORT name {settings.health_host}:"
            f"{settings.health_port}, which cannot be had ({error.strerror}): give each role on a "
            "machine a port of its own, or 0."
        ) from None
    try:
        yield probes
    finally:
        probes.close()


def _tell_started(
    role: str, settings: Settings, *, health: str | None = None, metrics: str | None = None
) -> None:
    emit_json(
        {
            "role": role,
            "pid": os.getpid(),
            "state_dir": str(settings.state_dir),
            "health": health,
            "metrics": metrics,
        }
    )


def up(*, as_json: AsJson = False, stop_on_stdin_eof: StopOnEof = False) -> None:
    """Run all roles, and what is embedded, until SIGTERM or Ctrl-C.

    Example: `byok up`, then `byok account set acme --plan business --consent` in another shell.
    """
    settings = Settings.load()
    logs.set_up(settings.log_level)
    stopping = threading.Event()
    stop_on_signals(stopping, stdin=stop_on_stdin_eof)
    supervisor = Supervisor(settings, stopping)
    try:
        supervisor.start()
        err.print("ready", highlight=False)
        if as_json:
            metrics = (settings.state_dir / "exporter.url").read_text().strip()
            _tell_started("up", settings, metrics=metrics)
        supervisor.watch()
    finally:
        supervisor.stop()


def worker(*, as_json: AsJson = False, stop_on_stdin_eof: StopOnEof = False) -> None:
    """Run one worker process, on all queues or those of BYOK_QUEUES.

    Example: `byok worker`, or `BYOK_QUEUES=analyses byok worker`.
    """
    from workers import worker as role  # noqa: PLC0415 -- loads the SDKs, which takes a second

    with open_app("worker") as app, _probed(app) as probes:
        stop_on_signals(app.stopping, stdin=stop_on_stdin_eof)
        if as_json:
            _tell_started("worker", app.settings, health=probes.url)
        role.run(app)


def scheduler(*, as_json: AsJson = False, stop_on_stdin_eof: StopOnEof = False) -> None:
    """Run the scheduler and relay. Example: `byok scheduler`."""
    from workers import scheduler as role  # noqa: PLC0415 -- loads what other commands do not need

    with open_app("scheduler") as app, _probed(app) as probes:
        stop_on_signals(app.stopping, stdin=stop_on_stdin_eof)
        if as_json:
            _tell_started("scheduler", app.settings, health=probes.url)
        role.run(app)


def exporter(*, as_json: AsJson = False, stop_on_stdin_eof: StopOnEof = False) -> None:
    """Serve the metrics of this machine's processes. Example: `byok exporter`."""
    from metrics.exporter import Exporter  # noqa: PLC0415 -- loads what other roles do not need
    from workers.gauges import Gauges, build  # noqa: PLC0415

    # A database server may be away: that is what the page then tells.
    embedded = Settings.load().database_url is None
    with open_app("exporter", need_store=embedded) as app, _probed(app) as probes:
        stop_on_signals(app.stopping, stdin=stop_on_stdin_eof)
        settings = app.settings
        settings.metrics_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        read = Gauges(app)
        try:
            served = Exporter(
                settings.metrics_dir,
                read.sources(),
                host=settings.exporter_host,
                port=settings.effective_exporter_port,
                constant=[build()],
                failed=read.failed,
            )
        except OSError as error:
            raise ConfigurationError(
                f"BYOK_EXPORTER_HOST and BYOK_EXPORTER_PORT name {settings.exporter_host}:"
                f"{settings.effective_exporter_port}, which cannot be had ({error.strerror}): give "
                "the exporter a port that is free."
            ) from None
        (settings.state_dir / "exporter.url").write_text(served.url + "\n")
        app.health.watch_thread("the server of /metrics", served.is_alive)
        app.health.has_started()
        if as_json:
            _tell_started("exporter", settings, health=probes.url, metrics=served.url)
        app.stopping.wait()
        served.close()
        read.close()
