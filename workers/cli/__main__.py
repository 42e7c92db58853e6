"""Where `byok` starts: Ctrl-C is answered from the first line on, also while the rest is loaded."""

import sys


def run() -> None:
    """Load the command line and run it."""
    try:
        from workers.cli.main import run as run_command  # noqa: PLC0415 -- see the module

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("byok: Stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    run()
