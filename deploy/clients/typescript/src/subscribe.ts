// Reading the out-event stream: consumer groups, at least once, resumable.

import type { Redis } from "ioredis";
import type { OutEvent, OutgoingType } from "./event.js";
import { connectRedis } from "./redis.js";

const STREAM = "byok:events";
const EVENT_FIELD = "event";
const BATCH = 100;
const BLOCK_MS = 1000;
/** What another consumer took and has not acknowledged for this long is taken over. */
const ABANDONED_MS = 60_000;
/** A read answers within `BLOCK_MS`; a connection that is silent for so much longer is dead. */
const SILENT_MS = 10_000;

export interface SubscribeOptions<Type extends OutgoingType> {
  redisUrl: string;
  /** Each group gets every event, each event goes to one consumer of a group. */
  group: string;
  consumer?: string;
  /** The types that reach the handler; others are passed over. */
  types: readonly Type[];
  /** An event is acknowledged when this has resolved. It can come twice: drop repeats by its `id`. */
  handler: (event: OutEvent<Type>) => Promise<unknown> | unknown;
  /** Ends the subscription, within a second. */
  signal?: AbortSignal;
  /** Where a new group begins: at the oldest event that is kept, or with what is new. */
  from?: "oldest" | "new";
}

/**
 * Calls the handler with each out-event, one after the other, until `signal` is aborted.
 *
 * Where the handler throws, that ends this function, and the event comes again to whoever
 * subscribes next. Throws what the handler throws, and the Redis client's errors: subscribe again
 * to go on.
 */
export async function subscribe<Type extends OutgoingType>(options: SubscribeOptions<Type>): Promise<void> {
  const { group, consumer = "consumer", types, handler, signal } = options;
  const client = connectRedis(options.redisUrl, { socketTimeout: SILENT_MS });
  const wanted: ReadonlySet<string> = new Set(types);
  const handle = async (entries: Entry[]): Promise<void> => {
    for (const [id, fields] of entries) {
      const event = read<Type>(fields, wanted);
      if (event !== undefined) await handler(event);
      await client.xack(STREAM, group, id);
    }
  };
  try {
    await makeGroup(client, group, options.from === "new" ? "$" : "0");
    // First what this consumer took before and did not acknowledge, then what others left.
    for (let after = "0"; ; ) {
      const entries = await readGroup(client, group, consumer, after);
      if (entries.length === 0) break;
      await handle(entries);
      after = entries.at(-1)?.[0] ?? after;
    }
    await takeOver(client, group, consumer, handle);
    while (!signal?.aborted) {
      await handle(await readGroup(client, group, consumer, ">"));
      await takeOver(client, group, consumer, handle);
    }
  } finally {
    client.disconnect();
  }
}

type Entry = [id: string, fields: string[] | null];

async function makeGroup(client: Redis, group: string, from: string): Promise<void> {
  try {
    await client.xgroup("CREATE", STREAM, group, from, "MKSTREAM");
  } catch (error) {
    if (!String(error).includes("BUSYGROUP")) throw error;
  }
}

async function readGroup(client: Redis, group: string, consumer: string, after: string): Promise<Entry[]> {
  const found = (await client.xreadgroup(
    ...(["GROUP", group, consumer, "COUNT", BATCH, "BLOCK", BLOCK_MS, "STREAMS", STREAM, after] as const),
  )) as [string, Entry[]][] | null;
  return found?.[0]?.[1] ?? [];
}

async function takeOver(
  client: Redis,
  group: string,
  consumer: string,
  handle: (entries: Entry[]) => Promise<void>,
): Promise<void> {
  for (let cursor = "0-0"; ; ) {
    const [next, entries] = (await client.xautoclaim(
      ...([STREAM, group, consumer, ABANDONED_MS, cursor, "COUNT", BATCH] as const),
    )) as [string, Entry[]];
    await handle(entries);
    if (next === "0-0") return;
    cursor = next;
  }
}

/** The event if its type is wanted. One that is cut from the stream meanwhile has no fields. */
function read<Type extends OutgoingType>(
  fields: string[] | null,
  wanted: ReadonlySet<string>,
): OutEvent<Type> | undefined {
  const at = fields?.indexOf(EVENT_FIELD) ?? -1;
  const text = at < 0 ? undefined : fields?.[at + 1];
  if (text === undefined) return undefined;
  const event = JSON.parse(text) as OutEvent<Type>;
  return wanted.has(event.type) ? event : undefined;
}
