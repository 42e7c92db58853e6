"""The vectors of events: what must be read, how it is signed, and how it lies on a queue."""

import json
import uuid
from collections.abc import Mapping
from datetime import datetime

from events.contract import testkeys, wire
from events.contract.keeping import Vector, merged, refusal_of
from events.contract.samples import TIME, Sample, samples
from events.registry import INCOMING, read_event
from events.signing import SIGNATURE, SigningKey, Sources, canonical_bytes


def make_events(kept: Mapping[str, Vector], sealed: Mapping[str, str]) -> list[Vector]:
    """The events that must be read; `sealed` are the sealed values by name."""
    return merged(kept, [_event(sample) for sample in samples(sealed)])


def check_event(vector: Vector, signer: SigningKey, sources: Sources, now: datetime) -> list[str]:
    """What our code does otherwise than the vector says; empty where nothing."""
    problems = []
    if canonical_bytes(vector["event"]).hex() != vector["canonical_hex"]:
        problems.append("has another canonical form")
    if signer.sign(vector["event"]) != vector["signature"]:
        problems.append("is signed otherwise")
    signed = json.loads(vector["signed"])
    if signed != {**vector["event"], SIGNATURE: vector["signature"]}:
        problems.append("is not its event and its signature")
    reason, sentence = refusal_of(lambda: read_event(vector["signed"], sources, now))
    if reason:
        problems.append(f"is refused as {reason}: {sentence}")
    else:
        read = read_event(vector["signed"], sources, now)
        if (read.id, read.subject) != (signed["id"], signed["subject"]):
            problems.append("is read as another event")
    return problems + _misplaced(vector)


def sign(event: Vector, source: str) -> str:
    """The signed text of `event`, as the test key of `source` signs it."""
    signature = testkeys.signing_key(source).sign(event)
    return json.dumps({**event, SIGNATURE: signature}, ensure_ascii=False, separators=(",", ":"))


def _misplaced(vector: Vector) -> list[str]:
    """What is wrong with the vector's place on the queues."""
    queue, text = vector["queue"], vector["signed"]
    redis, rabbitmq = vector["redis"], vector["rabbitmq"]
    carried = json.loads(redis["value"])
    ids = {"message_id": carried["message_id"], "at_ms": carried["message_timestamp"]}
    problems = []
    if redis != wire.in_redis(queue, text, entry=redis["entry"], **ids):
        problems.append("lies otherwise in Redis")
    if rabbitmq != wire.in_rabbitmq(queue, text, **ids):
        problems.append("lies otherwise in RabbitMQ")
    return problems


def _event(sample: Sample) -> Vector:
    event = sample.event()
    signed = sign(event, sample.source)
    queue = INCOMING[sample.type].queue
    message_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"message {sample.name}"))
    entry = str(uuid.uuid5(uuid.NAMESPACE_OID, f"entry {sample.name}"))
    at_ms = int(datetime.fromisoformat(TIME).timestamp() * 1000)
    return {
        "name": sample.name,
        "type": sample.type,
        "queue": queue,
        "event": event,
        "canonical_hex": canonical_bytes(event).hex(),
        "signature": json.loads(signed)[SIGNATURE],
        "signed": signed,
        "redis": wire.in_redis(queue, signed, message_id=message_id, entry=entry, at_ms=at_ms),
        "rabbitmq": wire.in_rabbitmq(queue, signed, message_id=message_id, at_ms=at_ms),
    }
