// HPKE (RFC 9180), single-shot, base mode, in the one suite that the contract names:
// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.

import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  randomBytes,
} from "node:crypto";

const KEM = suite("KEM", 0x0020);
const HPKE = suite("HPKE", 0x0020, 0x0001, 0x0002);
const NONE = Buffer.alloc(0);
const ENC_BYTES = 32;
const TAG_BYTES = 16;

// DER around the 32 bytes of an X25519 key (RFC 8410).
const PRIVATE = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC = Buffer.from("302a300506032b656e032100", "hex");

/** Seals `plaintext` for the holder of `recipient` (32 bytes); `enc || ciphertext`. */
export function seal(recipient, info, plaintext, ephemeral = randomBytes(32)) {
  const steps = sealingSteps(recipient, info, plaintext, ephemeral);
  return Buffer.concat([steps.enc, steps.ciphertext]);
}

/** The same, with what comes out on the way. */
export function sealingSteps(recipient, info, plaintext, ephemeral) {
  const enc = publicOf(ephemeral);
  const shared = sharedSecret(ephemeral, recipient, Buffer.concat([enc, recipient]));
  const { key, nonce } = schedule(shared, info);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return { enc, sharedSecret: shared, key, nonce, ciphertext };
}

/** Opens `enc || ciphertext` with a private key (32 bytes). Throws where it does not open. */
export function open(privateKey, info, sealed) {
  if (sealed.length < ENC_BYTES + TAG_BYTES) throw new Error("too short");
  const enc = sealed.subarray(0, ENC_BYTES);
  const shared = sharedSecret(privateKey, enc, Buffer.concat([enc, publicOf(privateKey)]));
  const { key, nonce } = schedule(shared, info);
  const decipher = createDecipheriv("aes-256-gcm", key, nonce);
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  const body = decipher.update(sealed.subarray(ENC_BYTES, -TAG_BYTES));
  return Buffer.concat([body, decipher.final()]);
}

function sharedSecret(privateKey, publicKey, context) {
  const dh = diffieHellman({
    privateKey: privateFrom(privateKey),
    publicKey: createPublicKey({
      key: Buffer.concat([PUBLIC, publicKey]),
      format: "der",
      type: "spki",
    }),
  });
  const prk = extract(KEM, NONE, "eae_prk", dh);
  return expand(KEM, prk, "shared_secret", context, 32);
}

function schedule(shared, info) {
  const context = Buffer.concat([
    Buffer.from([0x00]),
    extract(HPKE, NONE, "psk_id_hash", NONE),
    extract(HPKE, NONE, "info_hash", info),
  ]);
  const secret = extract(HPKE, shared, "secret", NONE);
  return {
    key: expand(HPKE, secret, "key", context, 32),
    nonce: expand(HPKE, secret, "base_nonce", context, 12),
  };
}

function extract(id, salt, label, material) {
  const labeled = Buffer.concat([Buffer.from("HPKE-v1"), id, Buffer.from(label), material]);
  return createHmac("sha256", salt.length ? salt : Buffer.alloc(32)).update(labeled).digest();
}

function expand(id, prk, label, info, length) {
  // One block: nothing here is longer than a hash.
  const labeled = Buffer.concat([
    number(length),
    Buffer.from("HPKE-v1"),
    id,
    Buffer.from(label),
    info,
    Buffer.from([1]),
  ]);
  return createHmac("sha256", prk).update(labeled).digest().subarray(0, length);
}

function privateFrom(raw) {
  return createPrivateKey({ key: Buffer.concat([PRIVATE, raw]), format: "der", type: "pkcs8" });
}

function publicOf(raw) {
  const der = createPublicKey(privateFrom(raw)).export({ format: "der", type: "spki" });
  return der.subarray(-32);
}

function suite(name, ...ids) {
  return Buffer.concat([Buffer.from(name), ...ids.map(number)]);
}

function number(value) {
  return Buffer.from([value >> 8, value & 0xff]);
}
