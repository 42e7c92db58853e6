// Signatures: Ed25519 over the canonical form (RFC 8785) of the event without its signature.

import { createPrivateKey, type KeyObject, sign } from "node:crypto";
import canonicalize from "canonicalize";
import { EventRefused } from "./errors.js";
import { parseNamedKey } from "./named-key.js";

// DER before the 32 bytes of an Ed25519 private key (RFC 8410).
const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");

/** What is signed of an event. Throws `EventRefused` where JSON cannot carry it exactly. */
export function signedBytes(event: object): Buffer {
  const { signature: _, ...unsigned } = event as { signature?: string };
  let canonical: string | undefined;
  try {
    canonical = canonicalize(unsigned);
  } catch {
    canonical = undefined;
  }
  if (canonical === undefined) {
    throw new EventRefused("invalid_event", "The event holds a value that JSON cannot carry exactly.");
  }
  return Buffer.from(canonical, "utf8");
}

/** Signs as one source. */
export class Signer {
  readonly #key: KeyObject;

  /** `signingKey` is `id:base64`, as `byok keygen signing` makes it. */
  constructor(signingKey: string) {
    const { raw } = parseNamedKey(signingKey, "signing key");
    this.#key = createPrivateKey({ key: Buffer.concat([PKCS8, raw]), format: "der", type: "pkcs8" });
  }

  /** The `signature` of an event. */
  sign(event: object): string {
    return `ed25519.${sign(null, signedBytes(event), this.#key).toString("base64url")}`;
  }
}
