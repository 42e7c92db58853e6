// Events as the AsyncAPI document has them: sealed values, canonical bytes, signatures, messages.

import { createPrivateKey, createPublicKey, randomUUID, sign, verify } from "node:crypto";
import { open, seal } from "./hpke.mjs";

const SPECVERSION = "1.0";

// DER around the 32 bytes of an Ed25519 key (RFC 8410).
const PRIVATE = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC = Buffer.from("302a300506032b6570032100", "hex");

/** RFC 8785. ECMAScript writes strings and numbers as it wants them, and sorts by UTF-16. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") {
    if (typeof value === "number" && !Number.isFinite(value)) throw new Error("not a JSON number");
    return JSON.stringify(value);
  }
  const members = Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

/** What is signed: the event without its signature, canonical, in UTF-8. */
export function signedBytes({ signature: _, ...event }) {
  return Buffer.from(canonical(event), "utf8");
}

/** The `signature` of an event, by a seed of 32 bytes. */
export function signatureOf(event, seed) {
  const der = Buffer.concat([PRIVATE, seed]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return `ed25519.${sign(null, signedBytes(event), key).toString("base64url")}`;
}

/** Whether one of the public keys (32 bytes each) signed the event. */
export function isSignedBy(event, publicKeys) {
  const [scheme, encoded] = String(event.signature).split(".");
  if (scheme !== "ed25519") return false;
  const raw = Buffer.from(encoded, "base64url");
  return publicKeys.some((key) => {
    const der = Buffer.concat([PUBLIC, key]);
    const held = createPublicKey({ key: der, format: "der", type: "spki" });
    return verify(null, signedBytes(event), held, raw);
  });
}

/** What a sealed provider key belongs to. */
export function keyInfo(account, provider, keyId) {
  return Buffer.from(["byok-key", "v1", account, provider, keyId].join("\n"), "utf8");
}

/** What a sealed analysis input belongs to. */
export function inputInfo(account, requestId) {
  return Buffer.from(["byok-input", "v1", account, requestId].join("\n"), "utf8");
}

/** A sealed value for `{id, raw}`, the workers' public key. */
export function sealed(publicKey, info, text) {
  return sealedValue(publicKey.id, seal(publicKey.raw, info, Buffer.from(text, "utf8")));
}

/** A sealed value as it is written. */
export function sealedValue(keyId, bytes) {
  return `v1.${keyId}.${bytes.toString("base64url")}`;
}

/** Opens a sealed value; the reason where it does not open. */
export function unsealed(value, privateKeys, info) {
  const [version, keyId, encoded, ...more] = value.split(".");
  if (version !== "v1" || encoded === undefined || more.length) return { reason: "seal_malformed" };
  const key = privateKeys.get(keyId);
  if (!key) return { reason: "seal_unknown_key" };
  try {
    return { plaintext: open(key, info, Buffer.from(encoded, "base64url")) };
  } catch {
    return { reason: "seal_broken" };
  }
}

/** A signed event about `account`. */
export function event({ source, seed, type, account, data, id = randomUUID(), ...attributes }) {
  const unsigned = {
    specversion: SPECVERSION,
    id,
    source,
    type,
    time: new Date().toISOString(),
    subject: account,
    datacontenttype: "application/json",
    ...attributes,
    data,
  };
  return { ...unsigned, signature: signatureOf(unsigned, seed) };
}

/** The message that carries an event's JSON on `queue`. */
export function message(queue, text, options, id = randomUUID(), at = Date.now()) {
  return {
    queue_name: queue,
    actor_name: `${queue}_event`,
    args: [text],
    kwargs: {},
    options,
    message_id: id,
    message_timestamp: at,
  };
}

/** The commands that put an event's JSON on a queue in Redis, for one transaction. */
export function redisCommands(queue, text, entry = randomUUID(), ...rest) {
  const carried = JSON.stringify(message(queue, text, { redis_message_id: entry }, ...rest));
  return [
    ["HSET", `byok:${queue}.msgs`, entry, carried],
    ["RPUSH", `byok:${queue}`, entry],
  ];
}

/** A key as `id:base64` names it. */
export function namedKey(text) {
  const colon = text.indexOf(":");
  return { id: text.slice(0, colon), raw: Buffer.from(text.slice(colon + 1), "base64") };
}
