"""The `byok` command: its parts, and what happens when one fails."""

import sys

import typer

from workers.cli import (
    account,
    analyze,
    contract,
    demo,
    events,
    failed,
    keys,
    rekey,
    revalidate,
    roles,
    setup,
    usage,
)
from workers.cli.console import guard

app = typer.Typer(
    name="byok",
    help="Bring Your Own Key: workers that keep, prove and spend users' AI provider keys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.command("up")(roles.up)
app.command("worker")(roles.worker)
app.command("scheduler")(roles.scheduler)
app.command("exporter")(roles.exporter)
app.command("doctor")(setup.doctor)
app.command("keygen")(setup.keygen)
app.add_typer(setup.database, name="db", help="The database's schema.")
app.add_typer(account.commands, name="account", help="Accounts: plan, consent, credits.")
app.add_typer(keys.commands, name="keys", help="An account's provider keys.")
app.command("rekey")(rekey.rekey)
app.command("revalidate")(revalidate.revalidate)
app.command("analyze")(analyze.analyze)
app.command("usage")(usage.usage)
app.command("events")(events.events)
app.add_typer(contract.commands, name="contract", help="The event contract, for publishers.")
app.add_typer(failed.commands, name="failed", help="What was set aside or given up.")


def run() -> None:
    """Run the command line and exit: 0 done, 1 refused or failed, 2 wrong usage."""
    sys.exit(guard(app))


if __name__ == "__main__":
    run()
