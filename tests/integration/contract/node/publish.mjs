// A publisher in another language, written from asyncapi.json and vectors.json alone.
//
//   node publish.mjs ACCOUNT < provider-key
//
// Switches an account on, connects an OpenAI key, waits until it is Valid, has a mail analysed and
// prints the event that tells the result. Reads BYOK_BROKER_URL, BYOK_REDIS_URL, BYOK_SOURCE,
// BYOK_SIGNING_KEY, BYOK_SEALING_PUBLIC_KEY, and TIMEOUT_SECONDS.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { event, inputInfo, keyInfo, namedKey, redisCommands, sealed } from "./event.mjs";
import { connect } from "./resp.mjs";

const STREAM = "byok:events";
const PROVIDER = "openai";
const BLOCK_MS = 200;

const account = process.argv[2];
const providerKey = readFileSync(0, "utf8").trim();
const source = process.env.BYOK_SOURCE;
const seed = namedKey(process.env.BYOK_SIGNING_KEY).raw;
const workersKey = namedKey(process.env.BYOK_SEALING_PUBLIC_KEY);
const deadline = Date.now() + 1000 * Number(process.env.TIMEOUT_SECONDS ?? 30);

const queues = await connect(process.env.BYOK_BROKER_URL);
const stream = await connect(process.env.BYOK_REDIS_URL);

async function publish(queue, type, data, attributes = {}) {
  const made = event({ source, seed, type, account, data, ...attributes });
  await queues.transaction(...redisCommands(queue, JSON.stringify(made)));
  return made.id;
}

/** Publishes and waits until the workers have it in their store. */
async function publishClaimed(queue, type, data) {
  const replyto = randomUUID();
  await publish(queue, type, data, { replyto });
  const seconds = Math.max(1, Math.ceil((deadline - Date.now()) / 1000));
  const answer = await stream.command("BLPOP", `byok:claims:${replyto}`, seconds);
  if (answer?.[1] !== "claimed") throw new Error(`${type}: ${answer?.[1] ?? "not claimed"}`);
}

/** The out-events of a consumer group, each once, acknowledged when the next is asked for or none. */
async function* outEvents(group) {
  const seen = new Set();
  while (Date.now() < deadline) {
    const found = await stream.command(
      ...["XREADGROUP", "GROUP", group, "publisher", "COUNT", 100, "BLOCK", BLOCK_MS],
      ...["STREAMS", STREAM, ">"],
    );
    for (const [entry, fields] of found?.[0][1] ?? []) {
      const told = JSON.parse(fields[fields.indexOf("event") + 1]);
      try {
        if (!seen.has(told.id)) yield told;
      } finally {
        seen.add(told.id);
        await stream.command("XACK", STREAM, group, entry);
      }
    }
  }
  throw new Error("gave up waiting for an out-event");
}

const group = `publisher-${randomUUID()}`;
await stream.command("XGROUP", "CREATE", STREAM, group, "$", "MKSTREAM");
const events = outEvents(group);

/** The next out-event about our account that `matches`; fails at one that says it will not come. */
async function nextEvent(matches) {
  for (;;) {
    const { value: told } = await events.next();
    if (told.subject !== account) continue;
    if (/^byok\.(event\.rejected|analysis\.(failed|skipped))\./.test(told.type)) {
      throw new Error(`${told.type}: ${told.data.reason}`);
    }
    if (matches(told)) return told;
  }
}

async function run() {
  const month = 30 * 24 * 3600 * 1000;
  await publishClaimed("accounts", "byok.account.updated.v1", {
    revision: 1,
    plan: "business",
    ai_consent: true,
    credits: 0,
    credit_period: {
      start: new Date(Date.now() - month).toISOString(),
      end: new Date(Date.now() + month).toISOString(),
    },
  });

  const keyId = `key-${randomUUID()}`;
  await publish("keys", "byok.key.added.v1", {
    revision: 2,
    provider: PROVIDER,
    key_id: keyId,
    sealed_key: sealed(workersKey, keyInfo(account, PROVIDER, keyId), providerKey),
  });
  await nextEvent(
    ({ type, data }) =>
      type === "byok.key.status_changed.v1" && data.key_id === keyId && data.new === "valid",
  );

  const requestId = `req-${randomUUID()}`;
  const mail = {
    subject: "Mittagessen am Freitag? 🍽",
    from: "Zoë <zoe@example.org>",
    to: "bob@example.org",
    date: "Thu, 15 Jan 2026 11:58:00 +0000",
    text: "Hi Bob, shall we have lunch on Friday? Please let me know. Zoë",
  };
  await publish("analyses", "byok.analysis.requested.v1", {
    request_id: requestId,
    operation: "classify",
    sealed_input: sealed(workersKey, inputInfo(account, requestId), JSON.stringify(mail)),
  });
  const completed = await nextEvent(
    ({ type, data }) => type === "byok.analysis.completed.v1" && data.request_id === requestId,
  );
  await events.return();
  return completed;
}

try {
  console.log(JSON.stringify(await run()));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  queues.close();
  stream.close();
}
