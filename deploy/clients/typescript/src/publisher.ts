import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { Claims } from "./claims.js";
import { type Incoming, QUEUE_OF } from "./contract.js";
import { EventRefused } from "./errors.js";
import { encodeEvent, type IncomingType, makeEvent } from "./event.js";
import { openQueue, type Queue } from "./queue.js";
import { Signer } from "./signing.js";

/** Messages on a queue from which on a publisher adds no more. */
export const DEPTH_LIMIT = 100_000;

export interface PublisherOptions {
  /** Where the queues are: `redis://`, `rediss://`, `unix://`, `amqp://` or `amqps://`. */
  brokerUrl: string;
  /** Where the workers answer; needed to wait until an event is claimed. */
  redisUrl?: string;
  /** Your name in the workers' `BYOK_PUBLISHERS`. */
  source: string;
  /** `id:base64`; only workers that run embedded take unsigned events. */
  signingKey?: string;
  depthLimit?: number;
}

export interface PublishOptions {
  /** Whom the event is about. */
  account: string;
  /** To publish an event again, safely: the id that it had before. */
  eventId?: string;
  /** `claimed`: until the workers have it in their store. */
  wait?: "queued" | "claimed";
  /** How long to wait for that, in seconds. */
  timeout?: number;
}

/** Publishes events as one source. */
export class Publisher {
  readonly #queue: Queue;
  readonly #source: string;
  readonly #signer: Signer | undefined;
  readonly #claims: Claims | undefined;
  readonly #depthLimit: number;

  constructor(options: PublisherOptions) {
    this.#source = options.source;
    this.#signer = options.signingKey === undefined ? undefined : new Signer(options.signingKey);
    this.#depthLimit = options.depthLimit ?? DEPTH_LIMIT;
    this.#queue = openQueue(options.brokerUrl);
    this.#claims = options.redisUrl === undefined ? undefined : new Claims(options.redisUrl);
  }

  /**
   * By `BYOK_BROKER_URL`, `BYOK_REDIS_URL`, `BYOK_SOURCE` and `BYOK_SIGNING_KEY`. All but the source
   * may lie in a file, which the variable with `_FILE` after its name names.
   */
  static fromEnvironment(environment: NodeJS.ProcessEnv = process.env): Publisher {
    const given = (variable: string): string | undefined => {
      const path = environment[`${variable}_FILE`];
      return (path ? readFileSync(path, "utf8").trim() : environment[variable]) || undefined;
    };
    const brokerUrl = given("BYOK_BROKER_URL");
    if (brokerUrl === undefined) {
      throw new Error("BYOK_BROKER_URL is not set: it says where the message queue is.");
    }
    const redisUrl = given("BYOK_REDIS_URL");
    const signingKey = given("BYOK_SIGNING_KEY");
    return new Publisher({
      brokerUrl,
      source: environment["BYOK_SOURCE"] || "byok/publisher",
      ...(redisUrl === undefined ? {} : { redisUrl }),
      ...(signingKey === undefined ? {} : { signingKey }),
    });
  }

  /**
   * Publishes an event; its id.
   *
   * When this resolves, the broker has confirmed it; with `wait: "claimed"`, the workers have it in
   * their store. Publishing again under the same `eventId` is always safe.
   *
   * Throws `EventRefused` (also `queue_full`), `BrokerAway`, and where it waits `NotClaimed` and
   * `Refused`.
   */
  async publish<Type extends IncomingType>(
    type: Type,
    data: Incoming[Type],
    options: PublishOptions,
  ): Promise<string> {
    const { account, eventId = randomUUID(), wait = "queued", timeout = 10 } = options;
    const queue = QUEUE_OF[type];
    if (queue === undefined) {
      throw new EventRefused("not_incoming", "This is not a type that workers read.");
    }
    const claims = wait === "claimed" ? this.#answers() : undefined;
    const replyto = claims && randomUUID();
    const unsigned = makeEvent({
      id: eventId,
      source: this.#source,
      type,
      time: new Date(),
      account,
      ...(replyto === undefined ? {} : { replyto }),
      data,
    });
    const text = encodeEvent({ ...unsigned, ...(this.#signer && { signature: this.#signer.sign(unsigned) }) });
    await this.#refuseFlood(queue);
    await this.#queue.put(queue, text);
    if (claims && replyto) await claims.wait(replyto, eventId, timeout);
    return eventId;
  }

  /** Closes the connections. */
  async close(): Promise<void> {
    this.#claims?.close();
    await this.#queue.close();
  }

  #answers(): Claims {
    if (this.#claims === undefined) {
      throw new EventRefused("no_answers", "To wait until it is claimed, BYOK_REDIS_URL must be set.");
    }
    return this.#claims;
  }

  async #refuseFlood(queue: "accounts" | "analyses" | "keys"): Promise<void> {
    const depth = await this.#queue.depth(queue);
    if (depth >= this.#depthLimit) {
      throw new EventRefused(
        "queue_full",
        `The queue '${queue}' holds ${depth} messages, and from ${this.#depthLimit} on nothing is ` +
          "added: publish again later.",
      );
    }
  }
}
