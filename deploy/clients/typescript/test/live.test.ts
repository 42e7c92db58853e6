// Against running workers: BYOK_BROKER_URL and the other variables say where.

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { BrokerAway, EventRefused, NotClaimed, type OutEvent, Publisher, Refused, subscribe } from "../src/index.js";
import { openQueue, type QueueName } from "../src/queue.js";

const url = process.env["BYOK_BROKER_URL"] ?? "";
const redisUrl = process.env["BYOK_REDIS_URL"] ?? "";
const account = `node-${randomUUID()}`;
let publisher: Publisher;

before(() => {
  publisher = Publisher.fromEnvironment();
});
after(() => publisher.close());

const deleted = (revision: number) => ["byok.account.deleted.v1", { revision }] as const;

test("an event that waits to be claimed is in the workers' store, and its repetition too", async () => {
  const eventId = await publisher.publish(...deleted(1), { account, wait: "claimed" });
  assert.equal(await publisher.publish(...deleted(1), { account, eventId, wait: "claimed" }), eventId);
});

test("many events are published at once, each claimed", async () => {
  const publishing = Array.from({ length: 20 }, (_, index) =>
    publisher.publish(...deleted(index + 2), { account, wait: "claimed" }),
  );
  assert.equal(new Set(await Promise.all(publishing)).size, 20);
});

test("a stranger's event is refused, and its publisher hears why", async () => {
  const stranger = new Publisher({
    brokerUrl: url,
    redisUrl,
    source: process.env["BYOK_SOURCE"] ?? "",
    signingKey: `t9:${randomBytes(32).toString("base64")}`,
  });
  await assert.rejects(stranger.publish(...deleted(1), { account, wait: "claimed" }), (error: unknown) => {
    assert.ok(error instanceof Refused);
    return error.reason === "bad_signature";
  });
  await stranger.close();
});

test("an event about a removed account's key is set aside and told on the stream, until it is handled", async () => {
  const group = `node-${randomUUID()}`;
  const eventId = randomUUID();
  const data = { request_id: "r-1", operation: "classify", sealed_input: `v1.none.${"A".repeat(64)}` } as const;
  const types = ["byok.event.rejected.v1"] as const;
  const seen: OutEvent<(typeof types)[number]>[] = [];
  const stop = new AbortController();
  await publisher.publish("byok.analysis.requested.v1", data, { account, eventId });
  const crash = new Error("the handler ended");
  const failing = subscribe({
    ...{ redisUrl, group, types },
    handler: (event) => {
      if (event.data.event_id === eventId) throw crash;
    },
  });
  await assert.rejects(failing, crash);
  await subscribe({
    ...{ redisUrl, group, types, signal: stop.signal },
    handler: (event) => {
      if (event.data.event_id !== eventId) return;
      seen.push(event);
      stop.abort();
    },
  });
  assert.deepEqual(
    seen.map((event) => [event.subject, event.data.reason]),
    [[account, "seal_unknown_key"]],
  );
});

test("nothing is added to a queue that is full", async () => {
  const careful = new Publisher({ brokerUrl: url, source: "test/node", depthLimit: 0 });
  await assert.rejects(careful.publish(...deleted(1), { account }), (error: unknown) => {
    assert.ok(error instanceof EventRefused);
    return error.reason === "queue_full";
  });
  await careful.close();
});

test("a claim that does not come in time is told as such", async () => {
  // Nobody takes from another database, or another virtual host's queue of the same name.
  const elsewhere = new Publisher({
    brokerUrl: url,
    redisUrl: redisUrl.replace(/(\?db=|\/)\d+$/, "$19"),
    source: "test/node",
  });
  const published = elsewhere.publish(...deleted(1), { account, wait: "claimed", timeout: 0.05 });
  await assert.rejects(published, NotClaimed);
  await elsewhere.close();
});

test("a broker that is away is told as such, without a second attempt of the client's own", async () => {
  for (const brokerUrl of ["redis://127.0.0.1:1/0", "unix:///nowhere/valkey.sock", "amqp://127.0.0.1:1"]) {
    const away = new Publisher({ brokerUrl, source: "test/node" });
    await assert.rejects(away.publish(...deleted(1), { account }), BrokerAway);
    await away.close();
  }
});

test("a message that the broker gives back was not published", { skip: !url.startsWith("amqp") }, async () => {
  const queue = openQueue(url);
  await assert.rejects(queue.put(`none-${randomUUID()}` as QueueName, "{}"), BrokerAway);
  await queue.close();
});
