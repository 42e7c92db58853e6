// Events: CloudEvents 1.0, checked before they are sent.

import type { Incoming, Outgoing } from "./contract.js";
import { EventRefused } from "./errors.js";

/** An event as it travels. */
export interface Envelope<Type extends string, Data> {
  specversion: "1.0";
  id: string;
  source: string;
  type: Type;
  time: string;
  subject: string;
  datacontenttype?: "application/json";
  replyto?: string | null;
  signature?: string | null;
  data: Data;
}

/** A type that you may publish. */
export type IncomingType = keyof Incoming;
/** A type that you may read from the stream. */
export type OutgoingType = keyof Outgoing;
/** An out-event of one of the types; `type` tells which `data` it has. */
export type OutEvent<Types extends OutgoingType = OutgoingType> = {
  [Type in Types]: Envelope<Type, Outgoing[Type]>;
}[Types];

/** The most bytes that an event's JSON has in UTF-8. */
export const MAX_EVENT_BYTES = 262_144;

const SPECVERSION = "1.0";
const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}$/;
const LOOKS_LIKE_A_KEY =
  /sk-(?:(?:proj|svcacct|service|admin|None)-|ant-(?:api|admin|oat|ort)[0-9]{2}-)?[A-Za-z0-9_-]{16,}/g;
/** What a match holds that begins after a letter ("desk-booking-confirmations") and is a key all the same. */
const MIXED = /[a-z][A-Z0-9]|[0-9][A-Za-z]|_/;
const SEALED = /^v1\.[A-Za-z0-9_:@+-]{1,128}\.([A-Za-z0-9_-]+)$/;

/** What an event is made of. */
export interface Parts<Type extends IncomingType> {
  id: string;
  source: string;
  type: Type;
  time: Date;
  account: string;
  replyto?: string;
  data: Incoming[Type];
}

/** An unsigned event. Throws `EventRefused` for what can be told to be wrong before it is sent. */
export function makeEvent<Type extends IncomingType>(parts: Parts<Type>): Envelope<Type, Incoming[Type]> {
  for (const [what, id] of [
    ["id", parts.id],
    ["account", parts.account],
  ]) {
    if (!IDENTIFIER.test(String(id))) {
      throw new EventRefused(
        "invalid_event",
        `The event's ${what} has letters, digits and ._:@+- only, a letter or digit first, at most 128.`,
      );
    }
  }
  const event = {
    specversion: SPECVERSION,
    id: parts.id,
    source: parts.source,
    type: parts.type,
    time: parts.time.toISOString(),
    subject: parts.account,
    datacontenttype: "application/json",
    ...(parts.replyto === undefined ? {} : { replyto: parts.replyto }),
    data: parts.data,
  } as const;
  refuseBadTexts(event);
  return event;
}

/** The JSON that is sent. Throws `EventRefused` (`too_large`). */
export function encodeEvent(event: object): string {
  const text = JSON.stringify(event);
  const size = Buffer.byteLength(text, "utf8");
  if (size > MAX_EVENT_BYTES) {
    throw new EventRefused(
      "too_large",
      `The event has ${size} bytes of JSON, and at most ${MAX_EVENT_BYTES} are taken: shorten the mail.`,
    );
  }
  return text;
}

/**
 * Throws `EventRefused` where a string is no Unicode text, or holds a provider key in the clear.
 *
 * Sealed values are passed over unless what is in them begins like a key: their alphabet has the
 * letters of a key's prefix, and in 200 kB the prefix comes up by chance.
 */
export function refuseBadTexts(event: object): void {
  for (const text of texts(event)) {
    if (!text.isWellFormed()) {
      throw new EventRefused("invalid_event", "The event holds half of a surrogate pair: it is no text.");
    }
    if (showsAKey(text)) {
      throw new EventRefused(
        "readable_key",
        "The event holds something of a provider key's shape in the clear: seal it.",
      );
    }
  }
}

function showsAKey(text: string): boolean {
  const sealed = SEALED.exec(text)?.[1];
  if (sealed === undefined) {
    for (const found of text.matchAll(LOOKS_LIKE_A_KEY)) {
      if (!/[A-Za-z]/.test(text.charAt(found.index - 1)) || MIXED.test(found[0])) return true;
    }
    return false;
  }
  return sealed.search(LOOKS_LIKE_A_KEY) === 0;
}

function* texts(value: unknown): Generator<string> {
  const waiting = [value];
  while (waiting.length > 0) {
    const item = waiting.pop();
    if (typeof item === "string") yield item;
    else if (Array.isArray(item)) waiting.push(...item);
    else if (item !== null && typeof item === "object") {
      waiting.push(...Object.keys(item), ...Object.values(item));
    }
  }
}
