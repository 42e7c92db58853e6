// The queues that workers take from: Redis or RabbitMQ, by the scheme of the address.

import { randomUUID } from "node:crypto";
import { RabbitMq } from "./rabbitmq.js";
import { RedisQueue } from "./redis.js";

/** Puts events on queues, confirmed by the broker. */
export interface Queue {
  /** How many messages wait on a queue. Throws `BrokerAway`. */
  depth(queue: QueueName): Promise<number>;
  /** Resolves when the broker has confirmed. Throws `BrokerAway`. */
  put(queue: QueueName, event: string): Promise<void>;
  close(): Promise<void>;
}

/** A queue that publishers send to. */
export type QueueName = "accounts" | "analyses" | "keys";

/** The message that carries an event's JSON, as dramatiq reads it. */
export function message(
  queue: QueueName,
  event: string,
  options: { redis_message_id?: string } = {},
  id: string = randomUUID(),
  at: number = Date.now(),
): string {
  return JSON.stringify({
    queue_name: queue,
    actor_name: `${queue}_event`,
    args: [event],
    kwargs: {},
    options,
    message_id: id,
    message_timestamp: at,
  });
}

/** The queues at `redis://`, `rediss://`, `unix://`, `amqp://` or `amqps://`. */
export function openQueue(url: string): Queue {
  const scheme = url.split(":", 1)[0];
  if (scheme === "redis" || scheme === "rediss" || scheme === "unix") return new RedisQueue(url);
  if (scheme === "amqp" || scheme === "amqps") return new RabbitMq(url);
  throw new Error("BYOK_BROKER_URL must begin with redis://, rediss://, unix://, amqp:// or amqps://.");
}
