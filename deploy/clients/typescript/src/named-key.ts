const KEY_BYTES = 32;

/** A key of 32 bytes and what it is called: `id:base64` in settings. */
export interface NamedKey {
  readonly id: string;
  readonly raw: Uint8Array<ArrayBuffer>;
}

/** Reads `id:base64`. Throws an error that names `what` and never repeats the text. */
export function parseNamedKey(text: string, what: string): NamedKey {
  const [, id, encoded] = /^([^:.]+):([A-Za-z0-9+/]+={0,2})$/.exec(text.trim()) ?? [];
  const raw = new Uint8Array(Buffer.from(encoded ?? "", "base64"));
  if (id === undefined || raw.length !== KEY_BYTES) {
    throw new Error(
      `The ${what} must be written \`id:base64\` with 32 bytes in base64 and no dot in the id: ` +
        "make one with `byok keygen`.",
    );
  }
  return { id, raw };
}
