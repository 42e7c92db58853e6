"""How long the last net in the logs takes: the aim is 10 ms for 1 MB.

Run it by hand: `.venv/bin/python -m tests.benchmarks.redaction`. It prints its figures.
"""

import time
from pathlib import Path

from events.redaction import redact

MAILS = Path(__file__).parents[1] / "data" / "mail"
SIZE = 1_000_000
ROUNDS = 20


def main() -> None:
    """Measure real mails and what is meant to be slow."""
    mails = " ".join(path.read_bytes().decode("latin-1") for path in sorted(MAILS.glob("*.eml")))
    key = "sk-ant-api03-" + "fake_Key-1" * 9 + "AA"
    texts = {
        "mails": mails,
        "mails, a key in each 1,000 characters": "".join(
            mails[start : start + 1_000] + f" {key} " for start in range(0, len(mails), 1_000)
        ),
        "prefixes": "sk-",
        "words": "ask-",
        "words and letters": "ask-" + "a" * 99,
        "too short by one": "sk-aaaaaaaaaaaaaaa ",
    }
    for name, piece in texts.items():
        text = (piece * (SIZE // len(piece) + 1))[:SIZE]
        took = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            redact(text)
            took.append(time.perf_counter() - began)
        print(f"{name}: {min(took) * 1000:.2f} ms for 1 MB (best of {ROUNDS})")


if __name__ == "__main__":
    main()
