"""What a programmer in any language must know beside the schemas, as the AsyncAPI document says it.

The text is `explanation.md`. Names and numbers in it come from the code that acts on them, so that
it cannot fall behind.
"""

import json
from importlib.resources import files
from string import Template

from events import claims
from events.broker import NAMESPACE, actor_of
from events.contract import hpke, wire
from events.contract.refusals import REFUSALS, Teller
from events.envelope import MAX_EVENT_BYTES
from events.publisher import DEPTH_LIMIT
from events.redaction import LOOKS_LIKE_A_KEY, MIXED, SEALED
from events.registry import INCOMING, QUEUES
from events.signing import MOST_AHEAD, OLDEST
from events.stream import EVENT_FIELD, STREAM
from events.usage import USAGE_QUEUE

PUBLIC_QUEUES = tuple(queue for queue in QUEUES if queue != USAGE_QUEUE)
"""The queues that publishers send to; the workers send to the others themselves."""

CLAIMS_ADDRESS = "byok:claims:{replyto}"
"""The Redis list where a publisher hears that its event was claimed."""

_EXAMPLE_QUEUE = "keys"


def whole() -> str:
    """All of it, in Markdown."""
    text = files("events.contract").joinpath("explanation.md").read_text(encoding="utf-8")
    return Template(text).substitute(_values()).strip()


def section(heading: str) -> str:
    """What stands under a heading."""
    _, _, rest = f"\n{whole()}\n".partition(f"\n## {heading}\n")
    return rest.partition("\n## ")[0].strip()


def _values() -> dict[str, str]:
    arguments = wire.queue_arguments(_EXAMPLE_QUEUE)
    return {
        "kem": f"0x{hpke.KEM_ID:04x}",
        "kdf": f"0x{hpke.KDF_ID:04x}",
        "aead": f"0x{hpke.AEAD_ID:04x}",
        "oldest_days": str(OLDEST.days),
        "ahead_minutes": str(MOST_AHEAD.seconds // 60),
        "queues": _queues(),
        "usage": USAGE_QUEUE,
        "hash": wire.hash_of(_EXAMPLE_QUEUE),
        "list": wire.list_of(_EXAMPLE_QUEUE),
        "namespace": NAMESPACE,
        "depth": f"{DEPTH_LIMIT:,}",
        "arguments": " and ".join(
            f"`{name}: {json.dumps(told)}`" for name, told in arguments.items()
        ),
        "persistent": str(wire.PERSISTENT),
        "claims": CLAIMS_ADDRESS,
        "claimed": claims.CLAIMED,
        "answer_seconds": str(claims.ANSWER_SECONDS),
        "max_bytes": f"{MAX_EVENT_BYTES:,}",
        "looks_like_a_key": LOOKS_LIKE_A_KEY.pattern,
        "mixed": MIXED.pattern,
        "sealed": SEALED.pattern,
        "refusals": _refusals(),
        "stream": STREAM,
        "field": EVENT_FIELD,
    }


def _queues() -> str:
    return "\n".join(
        f"| `{queue}` | `{actor_of(queue)}` | "
        + ", ".join(f"`{kind}`" for kind, model in INCOMING.items() if model.queue == queue)
        + " |"
        for queue in PUBLIC_QUEUES
    )


def _refusals() -> str:
    return "\n".join(
        f"| `{refusal.reason}` | {refusal.sentence} |"
        for refusal in REFUSALS
        if refusal.by in (Teller.READER, Teller.WORKER)
    )
