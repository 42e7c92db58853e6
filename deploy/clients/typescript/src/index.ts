export type * from "./contract.js";
export { BrokerAway, EventRefused, NotClaimed, Refused } from "./errors.js";
export { type Envelope, type IncomingType, MAX_EVENT_BYTES, type OutEvent, type OutgoingType } from "./event.js";
export { DEPTH_LIMIT, Publisher, type PublisherOptions, type PublishOptions } from "./publisher.js";
export { Opener, Sealer } from "./sealing.js";
export { Signer } from "./signing.js";
export { subscribe, type SubscribeOptions } from "./subscribe.js";
