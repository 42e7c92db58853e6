"""The AsyncAPI 3.0 document: servers, queues and stream, and the messages on them.

Source of the format: AsyncAPI specification 3.0.0; AMQP bindings 0.3.0. There are no bindings for
Redis, so those are told in words and in `x-` fields.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from events import claims
from events.broker import actor_of
from events.contract import explanation, wire
from events.contract.explanation import CLAIMS_ADDRESS, PUBLIC_QUEUES
from events.contract.schemas import components
from events.envelope import EventData
from events.registry import INCOMING, OUTGOING
from events.stream import EVENT_FIELD, STREAM

_VERSION = "1.0.0"
"""Of the contract as a whole; the middle number rises when something is added."""

_AMQP_BINDING = "0.3.0"
_SCHEMAS = "#/components/schemas/"

Document = dict[str, Any]


def make_asyncapi(vectors: Mapping[str, Any]) -> Document:
    """The document; the events of `vectors` are its examples."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "BYOK workers",
            "version": _VERSION,
            "description": explanation.whole(),
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {
            **{queue: _queue_channel(queue) for queue in PUBLIC_QUEUES},
            "events": _stream_channel(),
            "claims": _claims_channel(),
        },
        "operations": _operations(),
        "components": {
            "schemas": {
                **components(_SCHEMAS),
                **{_wrapped(queue): _wrapped_schema(queue) for queue in PUBLIC_QUEUES},
                "StreamEntry": _entry_schema(),
            },
            "messages": _messages(vectors["events"]),
        },
    }


def _servers() -> Document:
    return {
        "redis": {
            "host": "localhost:6379",
            "pathname": "/0",
            "protocol": "redis",
            "description": "The queues, where BYOK_BROKER_URL is `redis://`, `rediss://` or "
            "`unix://`. One of the two, `redis` or `amqp`, is in use.\n\n"
            + explanation.section("Putting it on a queue in Redis"),
            "bindings": {"redis": {}},
        },
        "amqp": {
            "host": "localhost:5672",
            "pathname": "/",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "description": "The queues, where BYOK_BROKER_URL is `amqp://` or `amqps://`.\n\n"
            + explanation.section("Putting it on a queue in RabbitMQ"),
            "bindings": {"amqp": {}},
        },
        "stream": {
            "host": "localhost:6379",
            "pathname": "/1",
            "protocol": "redis",
            "description": "The out-event stream and the answers to publishers that wait, at "
            "BYOK_REDIS_URL: always Redis, a database number of its own.",
            "bindings": {"redis": {}},
        },
    }


def _queue_channel(queue: str) -> Document:
    return {
        "address": queue,
        "title": f"Queue {queue}",
        "description": f"Each event travels in a message for the actor `{actor_of(queue)}`, as the "
        f"schema `{_wrapped(queue)}` has it.",
        "servers": [_ref("servers", "redis"), _ref("servers", "amqp")],
        "messages": {
            kind: _ref("components", "messages", kind)
            for kind, model in _public().items()
            if model.queue == queue
        },
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {
                    "name": queue,
                    "durable": True,
                    "exclusive": False,
                    "autoDelete": False,
                },
                "bindingVersion": _AMQP_BINDING,
            }
        },
        "x-message": {"$ref": f"{_SCHEMAS}{_wrapped(queue)}"},
        "x-redis": {"hash": wire.hash_of(queue), "list": wire.list_of(queue)},
        "x-amqp-queue-arguments": wire.queue_arguments(queue),
    }


def _stream_channel() -> Document:
    return {
        "address": STREAM,
        "title": "Stream of out-events",
        "description": explanation.section("Reading the stream"),
        "servers": [_ref("servers", "stream")],
        "messages": {kind: _ref("components", "messages", kind) for kind in OUTGOING},
        "x-message": {"$ref": f"{_SCHEMAS}StreamEntry"},
    }


def _claims_channel() -> Document:
    return {
        "address": CLAIMS_ADDRESS,
        "title": "Answers to publishers that wait",
        "description": explanation.section("Hearing that it was claimed"),
        "servers": [_ref("servers", "stream")],
        "parameters": {"replyto": {"description": "The event's attribute `replyto`."}},
        "messages": {"claim": _ref("components", "messages", "claim")},
    }


def _operations() -> Document:
    taking = {
        f"take-{queue}": {
            "action": "receive",
            "channel": _ref("channels", queue),
            "summary": f"The workers take the events of the queue {queue}: you publish them.",
            "bindings": {
                "amqp": {
                    "deliveryMode": wire.PERSISTENT,
                    "mandatory": True,
                    "ack": True,
                    "bindingVersion": _AMQP_BINDING,
                }
            },
        }
        for queue in PUBLIC_QUEUES
    }
    return {
        **taking,
        "announce": {
            "action": "send",
            "channel": _ref("channels", "events"),
            "summary": "The workers tell what happened: you read it.",
        },
        "answer": {
            "action": "send",
            "channel": _ref("channels", "claims"),
            "summary": "The workers tell a publisher that waits what became of its event.",
        },
    }


def _messages(vectors: Iterable[Mapping[str, Any]]) -> Document:
    examples: dict[str, list[Document]] = {}
    for vector in vectors:
        example = {"name": vector["name"], "payload": json.loads(vector["signed"])}
        examples.setdefault(vector["type"], []).append(example)
    made = {
        kind: {
            "name": kind,
            "title": model.__name__,
            "summary": (model.__doc__ or "").partition("\n")[0],
            "contentType": "application/json",
            "payload": {"$ref": f"{_SCHEMAS}{kind}"},
            **({"examples": examples[kind]} if kind in examples else {}),
        }
        for kind, model in {**_public(), **OUTGOING}.items()
    }
    return {**made, "claim": _claim_message()}


def _claim_message() -> Document:
    return {
        "name": "claim",
        "title": "Claim",
        "summary": f"`{claims.CLAIMED}`, or `refused <reason>`.",
        "contentType": "text/plain",
        "payload": {"type": "string", "pattern": "^(claimed|refused [a-z_]+)$"},
    }


def _wrapped(queue: str) -> str:
    return f"message.{queue}"


def _wrapped_schema(queue: str) -> Document:
    events = [{"$ref": f"{_SCHEMAS}{k}"} for k, m in _public().items() if m.queue == queue]
    properties: Document = {
        "queue_name": {"const": queue},
        "actor_name": {"const": actor_of(queue)},
        "args": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "string",
                "description": "The event, as JSON in a string.",
                "contentMediaType": "application/json",
                "contentSchema": {"oneOf": events},
            },
        },
        "kwargs": {"type": "object", "maxProperties": 0},
        "options": {
            "type": "object",
            "description": "In Redis the id of the entry, which is also the hash's field; in "
            "RabbitMQ empty.",
            "properties": {"redis_message_id": {"type": "string"}},
        },
        "message_id": {"type": "string", "description": "A fresh UUID for each send."},
        "message_timestamp": {"type": "integer", "description": "Unix time in milliseconds."},
    }
    return {
        "title": _wrapped(queue),
        "description": f"The message around an event on the queue `{queue}`.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _entry_schema() -> Document:
    return {
        "title": "StreamEntry",
        "description": f"The fields of an entry of the stream `{STREAM}`.",
        "type": "object",
        "properties": {
            EVENT_FIELD: {
                "type": "string",
                "description": "The event, as JSON in a string.",
                "contentMediaType": "application/json",
                "contentSchema": {"oneOf": [{"$ref": f"{_SCHEMAS}{kind}"} for kind in OUTGOING]},
            }
        },
        "required": [EVENT_FIELD],
    }


def _public() -> dict[str, type[EventData]]:
    """The events that publishers send."""
    return {kind: model for kind, model in INCOMING.items() if model.queue in PUBLIC_QUEUES}


def _ref(*path: str) -> Document:
    return {"$ref": "#/" + "/".join(path)}
