// Hearing that an event was claimed: it is in the workers' store.

import type { Redis } from "ioredis";
import { BrokerAway, NotClaimed, Refused } from "./errors.js";
import { connectRedis } from "./redis.js";

const CLAIMED = "claimed";
const REFUSED = "refused ";

/** Waits for answers, each on a connection of its own: one that waits can do nothing else. */
export class Claims {
  readonly #url: string;
  readonly #idle: Redis[] = [];

  constructor(url: string) {
    this.#url = url;
  }

  /** Throws `NotClaimed` after `seconds`, `Refused`, and `BrokerAway`. */
  async wait(replyto: string, eventId: string, seconds: number): Promise<void> {
    const client = this.#idle.pop() ?? connectRedis(this.#url);
    let answer: [string, string] | null;
    try {
      answer = await client.blpop(`byok:claims:${replyto}`, seconds);
    } catch (error) {
      client.disconnect();
      throw new BrokerAway(error);
    }
    this.#idle.push(client);
    if (answer === null) throw new NotClaimed(eventId, seconds);
    if (answer[1] !== CLAIMED) throw new Refused(eventId, answer[1].replace(REFUSED, ""));
  }

  close(): void {
    for (const client of this.#idle.splice(0)) client.disconnect();
  }
}
