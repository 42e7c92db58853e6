/** The event breaks the contract, shows a readable key, or the queue is full: nothing was sent. */
export class EventRefused extends Error {
  override readonly name = "EventRefused";

  constructor(
    readonly reason: string,
    sentence: string,
  ) {
    super(sentence);
  }
}

/** The broker cannot be reached, or did not confirm: publish again under the same event id. */
export class BrokerAway extends Error {
  override readonly name = "BrokerAway";

  constructor(cause: unknown) {
    super("The message queue cannot be reached, or did not confirm: check BYOK_BROKER_URL.", { cause });
  }
}

/** Nobody claimed the event in time. It may still be: publish it again under the same event id. */
export class NotClaimed extends Error {
  override readonly name = "NotClaimed";

  constructor(
    readonly eventId: string,
    seconds: number,
  ) {
    super(
      `The event ${eventId} was not claimed within ${seconds} s: publish it again with the same ` +
        "event id, which is safe.",
    );
  }
}

/** The workers refused the event and set it aside. */
export class Refused extends Error {
  override readonly name = "Refused";

  constructor(
    readonly eventId: string,
    readonly reason: string,
  ) {
    super(`The workers refused the event ${eventId}: ${reason}.`);
  }
}
