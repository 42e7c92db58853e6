// Our own code against the test vectors, byte for byte. BYOK_VECTORS says where they are.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { QUEUE_ARGUMENTS } from "../src/contract.js";
import { EventRefused } from "../src/errors.js";
import { encodeEvent, makeEvent, MAX_EVENT_BYTES, refuseBadTexts } from "../src/event.js";
import { message, type QueueName } from "../src/queue.js";
import { redisKeys } from "../src/redis.js";
import { inputInfo, keyInfo, Opener, Sealer, sealedValue, SUITE, textInfo } from "../src/sealing.js";
import { Signer, signedBytes } from "../src/signing.js";

const PATH = process.env["BYOK_VECTORS"] ?? new URL("../../../../contracts/vectors.json", import.meta.url);
const vectors = JSON.parse(readFileSync(PATH, "utf8"));

const hex = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, "hex"));
const inHex = (bytes: Uint8Array | ArrayBuffer): string => Buffer.from(new Uint8Array(bytes)).toString("hex");
const raw = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, "base64"));

const sealingKeys = vectors.keys.sealing as { id: string; private: string; public: string; held_by_workers: boolean }[];
const opener = new Opener(
  sealingKeys
    .filter((key) => key.held_by_workers)
    .map((key) => `${key.id}:${key.private}`)
    .join(","),
);
const seeds = new Map<string, string>(
  vectors.keys.signing.map((key: { source: string; seed: string }) => [key.source, key.seed]),
);

async function reasonOf(act: () => Promise<unknown> | unknown): Promise<string> {
  try {
    await act();
  } catch (error) {
    if (error instanceof EventRefused) return error.reason;
    throw error;
  }
  return "taken";
}

for (const vector of vectors.sealing) {
  test(`the sealed value ${vector.name} opens to its plaintext`, async () => {
    assert.equal(inHex(await opener.open(vector.sealed, hex(vector.info_hex))), vector.plaintext_hex);
  });
  if (!vector.ephemeral_private_hex) continue;
  test(`${vector.name} is sealed to the same bytes by the same ephemeral key`, async () => {
    const key = sealingKeys.find(({ id }) => id === vector.sealing_key);
    assert.ok(key);
    const ephemeral = {
      privateKey: await SUITE.kem.deserializePrivateKey(hex(vector.ephemeral_private_hex).buffer),
      publicKey: await SUITE.kem.deserializePublicKey(hex(vector.enc_hex).buffer),
    };
    const { enc, ct } = await SUITE.seal(
      {
        recipientPublicKey: await SUITE.kem.deserializePublicKey(raw(key.public).buffer),
        info: hex(vector.info_hex),
        ekm: ephemeral,
      },
      hex(vector.plaintext_hex),
    );
    assert.equal(inHex(ct), vector.ciphertext_hex);
    const value = sealedValue(key.id, Buffer.concat([new Uint8Array(enc), new Uint8Array(ct)]));
    assert.equal(value, vector.sealed);
  });
}

for (const vector of vectors.sealing_refused) {
  test(`the sealed value ${vector.name} is refused as ${vector.reason}`, async () => {
    const outcome = await reasonOf(() => opener.open(vector.sealed, hex(vector.info_hex)));
    assert.equal(outcome, vector.reason);
  });
}

test("what is sealed here opens for what it was sealed for and for nothing else", async () => {
  const key = sealingKeys.find(({ held_by_workers }) => held_by_workers);
  assert.ok(key);
  const sealer = new Sealer(`${key.id}:${key.public}`);
  const sealed = await sealer.key("sk-proj-sandbox-not-a-real-key-0001", {
    account: "acme",
    provider: "openai",
    keyId: "key-1",
  });
  const opened = await opener.open(sealed, keyInfo("acme", "openai", "key-1"));
  assert.equal(Buffer.from(opened).toString(), "sk-proj-sandbox-not-a-real-key-0001");
  assert.equal(await reasonOf(() => opener.open(sealed, keyInfo("acme", "anthropic", "key-1"))), "seal_broken");
  const input = await sealer.input({ subject: "Grüße 🍽" }, { account: "acme", requestId: "r-1" });
  assert.equal(await reasonOf(() => opener.open(input, inputInfo("acme", "r-2"))), "seal_broken");
  const text = await sealer.seal(
    new Uint8Array(Buffer.from('{"summary": "Lunch?"}')),
    textInfo("acme", "r-1"),
  );
  assert.deepEqual(await opener.text(text, { account: "acme", requestId: "r-1" }), { summary: "Lunch?" });
});

for (const vector of vectors.events) {
  const { name, queue, signed, redis, rabbitmq } = vector as { [k: string]: any; queue: QueueName };

  test(`the event ${name} has its canonical form and signature`, () => {
    const seed = seeds.get(vector.event.source);
    assert.equal(inHex(signedBytes(vector.event)), vector.canonical_hex);
    assert.equal(new Signer(`seed:${seed}`).sign(vector.event), vector.signature);
    refuseBadTexts(vector.event);
  });

  if (!(queue in QUEUE_ARGUMENTS)) continue;
  test(`the event ${name} lies on its queue as the vectors have it`, () => {
    const carried = JSON.parse(redis.value);
    const ids = [carried.message_id, carried.message_timestamp] as const;
    const { hash, list } = redisKeys(queue);
    assert.deepEqual([hash, list], [redis.hash, redis.list]);
    assert.deepEqual(JSON.parse(message(queue, signed, { redis_message_id: redis.entry }, ...ids)), carried);
    assert.deepEqual(JSON.parse(message(queue, signed, {}, ...ids)), JSON.parse(rabbitmq.body));
    assert.deepEqual(QUEUE_ARGUMENTS[queue], rabbitmq.arguments);
  });
}

for (const vector of vectors.events_refused.filter((one: { reason: string }) => one.reason === "readable_key")) {
  test(`${vector.name} is refused before it is sent`, async () => {
    assert.equal(await reasonOf(() => refuseBadTexts(JSON.parse(vector.text))), "readable_key");
  });
}

const parts = {
  id: "event-1",
  source: "test/node",
  type: "byok.key.tested.v1",
  time: new Date(0),
  account: "acme",
  data: { key_id: "key-1" },
} as const;

test("a word in which the beginning of a key stands is no key, and a key behind a letter is one", async () => {
  assert.equal(await reasonOf(() => refuseBadTexts({ keyword: "desk-booking-confirmations" })), "taken");
  const stuck = "xsk-proj-not-a-real-key-Zq8vTn3LxW5pRk7Y";
  assert.equal(await reasonOf(() => refuseBadTexts({ keyword: stuck })), "readable_key");
});

test("an event is refused whose account or id is no identifier", async () => {
  assert.equal(await reasonOf(() => makeEvent({ ...parts, account: "a b" })), "invalid_event");
  assert.equal(await reasonOf(() => makeEvent({ ...parts, id: "" })), "invalid_event");
  assert.equal(await reasonOf(() => makeEvent(parts)), "taken");
});

test("an event is refused that holds half of a character, a number that JSON has not, or too much", async () => {
  const half = { ...parts, data: { key_id: "\ud83c" } };
  assert.equal(await reasonOf(() => makeEvent(half)), "invalid_event");
  const signer = new Signer(`seed:${Buffer.alloc(32, 1).toString("base64")}`);
  assert.equal(await reasonOf(() => signer.sign({ revision: Number.NaN })), "invalid_event");
  const text = "é".repeat(MAX_EVENT_BYTES / 2 - 2);
  assert.equal(Buffer.byteLength(encodeEvent([text])), MAX_EVENT_BYTES);
  assert.equal(await reasonOf(() => encodeEvent([text, "x"])), "too_large");
});

test("a key that is not of its form is refused without its value", () => {
  for (const wrong of ["", "AAAA", "id:AAAA", "a.b:" + Buffer.alloc(32).toString("base64"), "id:sk-secret"]) {
    assert.throws(() => new Sealer(wrong), (error: Error) => !wrong || !error.message.includes(wrong));
  }
});
