"""What the exit codes of each command mean."""

_FAILED = "refused or failed, with one sentence on stderr"

_NO_VERDICT = "refused, or with --wait no verdict came in time (that a key is Invalid is one)"

FAILS = {
    "demo": "something did not start, or did not end in time",
    "up": "a part did not start, or something already runs there",
    "worker": "it could not start",
    "scheduler": "it could not start",
    "exporter": "it could not start",
    "doctor": "something is not well",
    "healthcheck": "the role is not alive (with --ready: not ready), or none runs",
    "analyze": "a file was refused, or the results did not come in time",
    "account set": "refused, or no worker had it in time",
    "account delete": "the account is not known, or no worker had it in time",
    "keys add": _NO_VERDICT,
    "keys replace": _NO_VERDICT,
    "keys test": "there is no such key, or with --wait no verdict came in time",
    "keys remove": "there is no such key, or with --wait it was not removed in time",
    "resume": "it is not paused",
    "rekey": "a data key was left under an old master key",
    "usage rebuild": "with --check: something differs from the ledger",
    "usage audit": "something does not match",
    "failed show": "nothing with that id is set aside",
    "failed retry": "one of them cannot be sent again",
    "contract environment": "the queue is not embedded",
    "contract vectors": "there are none to be read, or with --check: one does not hold",
    "contract write": "a released vector would change, or a file cannot be written",
}
"""Exit code 1 of the commands of which there is more to say than `_FAILED`."""


def codes(command: str = "") -> dict[int, str]:
    """By exit code: what it means of a command (`keys add`)."""
    return {
        0: "done",
        1: FAILS.get(command, _FAILED),
        2: "wrong usage",
        130: "stopped by Ctrl-C",
    }


def told(command: str = "") -> str:
    """The same in one line."""
    return f"Exit codes: {'; '.join(f'{code} {what}' for code, what in codes(command).items())}."
