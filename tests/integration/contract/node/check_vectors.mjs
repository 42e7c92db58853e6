// Checks this implementation against vectors.json, byte for byte:
//   node check_vectors.mjs vectors.json
// Prints {"checked": n, "problems": [...]}; exit code 1 where there are any.

import { readFileSync } from "node:fs";
import {
  isSignedBy,
  message,
  redisCommands,
  sealedValue,
  signatureOf,
  signedBytes,
  unsealed,
} from "./event.mjs";
import { sealingSteps } from "./hpke.mjs";

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const hex = (text) => Buffer.from(text, "hex");
const base64 = (text) => Buffer.from(text, "base64");

const held = new Map(
  vectors.keys.sealing.filter((key) => key.held_by_workers).map((key) => [key.id, base64(key.private)]),
);
const publicKeys = new Map(vectors.keys.sealing.map((key) => [key.id, base64(key.public)]));
const seeds = new Map(vectors.keys.signing.map((key) => [key.source, base64(key.seed)]));

const problems = [];
let checked = 0;

function same(name, what, ours, theirs) {
  checked += 1;
  if (ours !== theirs) problems.push(`${name}: ${what} is ${ours}, and must be ${theirs}`);
}

for (const vector of vectors.sealing) {
  const info = hex(vector.info_hex);
  const opened = unsealed(vector.sealed, held, info);
  same(vector.name, "plaintext", opened.plaintext?.toString("hex") ?? opened.reason, vector.plaintext_hex);
  if (!vector.ephemeral_private_hex) continue;
  const steps = sealingSteps(
    publicKeys.get(vector.sealing_key),
    info,
    hex(vector.plaintext_hex),
    hex(vector.ephemeral_private_hex),
  );
  same(vector.name, "enc", steps.enc.toString("hex"), vector.enc_hex);
  same(vector.name, "shared secret", steps.sharedSecret.toString("hex"), vector.shared_secret_hex);
  same(vector.name, "key", steps.key.toString("hex"), vector.key_hex);
  same(vector.name, "nonce", steps.nonce.toString("hex"), vector.base_nonce_hex);
  same(vector.name, "ciphertext", steps.ciphertext.toString("hex"), vector.ciphertext_hex);
  const bytes = Buffer.concat([steps.enc, steps.ciphertext]);
  same(vector.name, "sealed value", sealedValue(vector.sealing_key, bytes), vector.sealed);
}

for (const vector of vectors.sealing_refused) {
  const opened = unsealed(vector.sealed, held, hex(vector.info_hex));
  same(vector.name, "outcome", opened.reason ?? "opened", vector.reason);
}

for (const vector of vectors.events) {
  const { name, queue, signed, redis, rabbitmq } = vector;
  same(name, "canonical form", signedBytes(vector.event).toString("hex"), vector.canonical_hex);
  same(name, "signature", signatureOf(vector.event, seeds.get(vector.event.source)), vector.signature);
  same(name, "whether it is signed", believed(JSON.parse(signed)), true);
  const carried = JSON.parse(redis.value);
  const ids = [carried.message_id, carried.message_timestamp];
  const [put, push] = redisCommands(queue, signed, redis.entry, ...ids);
  same(name, "hash and field", put.slice(1, 3).join(), [redis.hash, redis.field].join());
  same(name, "value", canonicalJson(put[3]), canonicalJson(redis.value));
  same(name, "list and entry", push.slice(1).join(), [redis.list, redis.entry].join());
  const body = JSON.stringify(message(queue, signed, {}, ...ids));
  same(name, "body", canonicalJson(body), canonicalJson(rabbitmq.body));
}

for (const vector of vectors.events_refused) {
  if (vector.reason !== "bad_signature") continue;
  same(vector.name, "whether it is signed", believed(JSON.parse(vector.text)), false);
}

function believed(event) {
  const source = vectors.keys.BYOK_PUBLISHERS[event.source];
  return source !== undefined && isSignedBy(event, source.keys.map(base64));
}

/** JSON of the same value in one form: escapes may differ, members and their order may not. */
function canonicalJson(text) {
  return JSON.stringify(JSON.parse(text));
}

console.log(JSON.stringify({ checked, problems }));
process.exitCode = problems.length ? 1 : 0;
