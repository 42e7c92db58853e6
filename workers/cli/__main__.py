"""Where `byok` starts: Ctrl-C is answered from the first line on, also while the rest is loaded."""

import sys

_OURS = ("events", "store", "metrics", "workers", "deploy")


def run() -> None:
    """Load the command line and run it."""
    try:
        from workers.cli.main import run as run_command  # noqa: PLC0415 -- see the module

        run_command()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        sys.stderr.write(
            f"byok: The package {error.name} is not installed: what is here is for publishers "
            "alone, install `byok-workers[workers]`.\n"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("byok: Stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    run()
