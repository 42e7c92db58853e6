// From a provider key to an analysis on it. The key is read from standard input:
//   node dist/examples/first-analysis.js ACCOUNT < key
// BYOK_BROKER_URL, BYOK_REDIS_URL, BYOK_SOURCE and BYOK_SIGNING_KEY say where to and as whom,
// BYOK_SEALING_PUBLIC_KEY what to seal with.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { type OutEvent, Publisher, Sealer, subscribe } from "byok-client";

const account = process.argv[2] ?? "acme";
const pasted = readFileSync(0, "utf8").trim();
const sealer = new Sealer(process.env["BYOK_SEALING_PUBLIC_KEY"] ?? "");
const publisher = Publisher.fromEnvironment();

const keyId = `key-${randomUUID()}`;
const requestId = `req-${randomUUID()}`;

/** Your system of record counts the revisions of an account up; here they begin with the clock. */
let revision = Date.now();

async function connectKey(): Promise<void> {
  const month = 30 * 24 * 3600 * 1000;
  await publisher.publish(
    "byok.account.updated.v1",
    {
      revision: ++revision,
      plan: "business",
      ai_consent: true,
      credits: 0,
      credit_period: {
        start: new Date(Date.now() - month).toISOString(),
        end: new Date(Date.now() + month).toISOString(),
      },
    },
    { account, wait: "claimed", timeout: 60 },
  );
  await publisher.publish(
    "byok.key.added.v1",
    {
      revision: ++revision,
      provider: "openai",
      key_id: keyId,
      sealed_key: await sealer.key(pasted, { account, provider: "openai", keyId }),
    },
    { account, wait: "claimed", timeout: 60 },
  );
}

async function ask(): Promise<void> {
  const mail = {
    subject: "Mittagessen am Freitag? 🍽",
    from: "Zoë <zoe@example.org>",
    to: "bob@example.org",
    text: "Hi Bob, shall we have lunch on Friday? Please let me know. Zoë",
  };
  await publisher.publish(
    "byok.analysis.requested.v1",
    {
      request_id: requestId,
      operation: "classify",
      sealed_input: await sealer.input(mail, { account, requestId }),
    },
    { account },
  );
}

const TYPES = [
  "byok.key.status_changed.v1",
  "byok.analysis.completed.v1",
  "byok.analysis.failed.v1",
  "byok.analysis.skipped.v1",
  "byok.event.rejected.v1",
] as const;

const done = new AbortController();

async function follow(event: OutEvent<(typeof TYPES)[number]>): Promise<void> {
  if (event.subject !== account) return;
  switch (event.type) {
    case "byok.key.status_changed.v1":
      if (event.data.key_id !== keyId || event.data.new === "pending") return;
      console.error(`The key is ${event.data.new} (${event.data.reason}).`);
      if (event.data.new === "valid") await ask();
      else done.abort();
      return;
    case "byok.analysis.completed.v1":
      if (event.data.request_id !== requestId) return;
      console.log(JSON.stringify(event));
      done.abort();
      return;
    default:
      throw new Error(`${event.type}: ${event.data.reason}`);
  }
}

try {
  await connectKey();
  await subscribe({
    redisUrl: process.env["BYOK_REDIS_URL"] ?? "",
    group: `example-${keyId}`,
    types: TYPES,
    handler: follow,
    signal: done.signal,
  });
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  await publisher.close();
}
