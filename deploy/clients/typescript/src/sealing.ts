// Sealed values: HPKE (RFC 9180), single-shot, base mode. A value is bound by `info` to what it
// belongs to, and opens for nothing else.

import { Aes256Gcm, CipherSuite, HkdfSha256 } from "@hpke/core";
import { DhkemX25519HkdfSha256 } from "@hpke/dhkem-x25519";
import type { MailInput, Provider, ThreadInput } from "./contract.js";
import { EventRefused } from "./errors.js";
import { type NamedKey, parseNamedKey } from "./named-key.js";

const ENC_BYTES = 32;

/** DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. */
export const SUITE = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});

/** What a sealed provider key belongs to. */
export function keyInfo(account: string, provider: Provider, keyId: string): Uint8Array<ArrayBuffer> {
  return info("byok-key", account, provider, keyId);
}

/** What a sealed analysis input belongs to. */
export function inputInfo(account: string, requestId: string): Uint8Array<ArrayBuffer> {
  return info("byok-input", account, requestId);
}

/** What the sealed free text of a result belongs to. */
export function textInfo(account: string, requestId: string): Uint8Array<ArrayBuffer> {
  return info("byok-text", account, requestId);
}

function info(purpose: string, ...parts: string[]): Uint8Array<ArrayBuffer> {
  return bytes([purpose, "v1", ...parts].join("\n"));
}

/** Seals what only the workers can open. */
export class Sealer {
  readonly #key: NamedKey;

  /** `publicKey` is the workers' `BYOK_SEALING_PUBLIC_KEY`: `id:base64`. */
  constructor(publicKey: string) {
    this.#key = parseNamedKey(publicKey, "sealing public key");
  }

  /** A pasted provider key, for `sealed_key`. */
  async key(pasted: string, of: { account: string; provider: Provider; keyId: string }): Promise<string> {
    return await this.seal(bytes(pasted), keyInfo(of.account, of.provider, of.keyId));
  }

  /** A mail or a thread, for `sealed_input`. */
  async input(given: MailInput | ThreadInput, of: { account: string; requestId: string }): Promise<string> {
    return await this.seal(bytes(JSON.stringify(given)), inputInfo(of.account, of.requestId));
  }

  /** Any bytes for an `info`. */
  async seal(plaintext: Uint8Array<ArrayBuffer>, info: Uint8Array<ArrayBuffer>): Promise<string> {
    const recipientPublicKey = await SUITE.kem.deserializePublicKey(this.#key.raw.buffer);
    for (;;) {
      const { enc, ct } = await SUITE.seal({ recipientPublicKey, info }, plaintext);
      const value = sealedValue(this.#key.id, Buffer.concat([bytes(enc), bytes(ct)]));
      // One in 262,144 begins as a readable key does, and would be refused as one.
      if (!value.split(".").at(-1)?.startsWith("sk-")) return value;
    }
  }
}

/** Opens what was sealed to the holder of the private keys: the free text of results. */
export class Opener {
  readonly #keys: ReadonlyMap<string, NamedKey>;

  /** `privateKeys` is `id:base64,…`, as `byok keygen sealing` makes them. */
  constructor(privateKeys: string) {
    const keys = privateKeys.split(",").map((key) => parseNamedKey(key, "sealing key"));
    this.#keys = new Map(keys.map((key) => [key.id, key]));
  }

  /** The free text of an `analysis.completed`: `{"summary": …}` or `{"reply": …}`. */
  async text(sealed: string, of: { account: string; requestId: string }): Promise<Record<string, string>> {
    const opened = await this.open(sealed, textInfo(of.account, of.requestId));
    return JSON.parse(Buffer.from(opened).toString("utf8")) as Record<string, string>;
  }

  /** Throws `EventRefused` with `seal_malformed`, `seal_unknown_key` or `seal_broken`. */
  async open(sealed: string, info: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    const [version, id, encoded, ...more] = sealed.split(".");
    if (version !== "v1" || id === undefined || encoded === undefined || more.length > 0) {
      throw new EventRefused("seal_malformed", "The value is not of the form v1.<key id>.<base64url>.");
    }
    const key = this.#keys.get(id);
    if (key === undefined) {
      throw new EventRefused("seal_unknown_key", "The value is sealed for a key that is not held here.");
    }
    const raw = bytes(Buffer.from(encoded, "base64url"));
    try {
      const recipientKey = await SUITE.kem.deserializePrivateKey(key.raw.buffer);
      const enc = raw.slice(0, ENC_BYTES);
      return bytes(await SUITE.open({ recipientKey, enc, info }, raw.slice(ENC_BYTES)));
    } catch {
      throw new EventRefused(
        "seal_broken",
        "The value does not open: it was altered or cut, or sealed for another account or request.",
      );
    }
  }
}

/** A sealed value as it is written. */
export function sealedValue(keyId: string, encAndCiphertext: Uint8Array): string {
  return `v1.${keyId}.${Buffer.from(encAndCiphertext).toString("base64url")}`;
}

function bytes(of: string | ArrayBuffer | Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(typeof of === "string" ? Buffer.from(of, "utf8") : of);
}
