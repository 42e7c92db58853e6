import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { BrokerAway } from "./errors.js";
import { message, type Queue, type QueueName } from "./queue.js";

const COMMAND_MS = 10_000;

/**
 * A client for `redis://`, `rediss://` or `unix://`, with the database in the path or in `?db=`.
 *
 * It repeats no command: a push that is repeated would put one message on a queue twice.
 */
export function connectRedis(address: string, more: { commandTimeout?: number; socketTimeout?: number } = {}): Redis {
  const url = new URL(address);
  const unix = url.protocol === "unix:";
  const database = url.searchParams.get("db") ?? (unix ? "" : url.pathname.slice(1));
  const client = new Redis({
    ...(unix
      ? { path: decodeURIComponent(url.pathname) }
      : { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || 6379) }),
    ...(url.protocol === "rediss:" ? { tls: {} } : {}),
    ...(url.username ? { username: decodeURIComponent(url.username) } : {}),
    ...(url.password ? { password: decodeURIComponent(url.password) } : {}),
    db: Number(database || 0),
    lazyConnect: true,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: COMMAND_MS,
    keepAlive: 15_000,
    ...more,
  });
  // Every command's failure reaches who sent it; without a listener each would be printed, too.
  client.on("error", () => undefined);
  return client;
}

/** What `queue` is in Redis. */
export function redisKeys(queue: QueueName): { hash: string; list: string } {
  return { hash: `byok:${queue}.msgs`, list: `byok:${queue}` };
}

/** The queues in Redis. */
export class RedisQueue implements Queue {
  readonly #client: Redis;

  constructor(url: string) {
    this.#client = connectRedis(url, { commandTimeout: COMMAND_MS });
  }

  async depth(queue: QueueName): Promise<number> {
    return await confirmed(this.#client.llen(redisKeys(queue).list));
  }

  async put(queue: QueueName, event: string): Promise<void> {
    const { hash, list } = redisKeys(queue);
    const entry = randomUUID();
    const carried = message(queue, event, { redis_message_id: entry });
    const answers = await confirmed(
      this.#client.multi().hset(hash, entry, carried).rpush(list, entry).exec(),
    );
    const failed = answers === null ? new Error("aborted") : answers.find(([error]) => error)?.[0];
    if (failed) throw new BrokerAway(failed);
  }

  async close(): Promise<void> {
    this.#client.disconnect();
  }
}

async function confirmed<Answer>(command: Promise<Answer>): Promise<Answer> {
  try {
    return await command;
  } catch (error) {
    throw new BrokerAway(error);
  }
}
