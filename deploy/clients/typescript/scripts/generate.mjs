// Writes src/contract.ts from the event contract: the types of all events' data, and which queue
// takes which type. It is made at each build and never committed, so it cannot fall behind.

import { readFileSync, writeFileSync } from "node:fs";
import { compile } from "json-schema-to-typescript";

const CONTRACT = new URL("../../../contracts/asyncapi.json", import.meta.url);
const TARGET = new URL("../src/contract.ts", import.meta.url);
const SCHEMAS = "#/components/schemas/";
const OUTGOING = "events";

const document = JSON.parse(readFileSync(CONTRACT, "utf8"));

/** The same with references into `$defs`, and without `title`, which would give each field a type. */
function moved(value) {
  if (Array.isArray(value)) return value.map(moved);
  if (value === null || typeof value !== "object") return value;
  const parts = Object.entries(value).filter(([name, part]) => !(name === "title" && typeof part === "string"));
  return Object.fromEntries(
    parts.map(([name, part]) => [
      name,
      name === "$ref" ? part.replace(SCHEMAS, "#/$defs/") : moved(part),
    ]),
  );
}

/** Type by type, what its data is. */
function dataOf(types, description) {
  const properties = Object.fromEntries(
    types.map((type) => [type, moved(document.components.schemas[type].properties.data)]),
  );
  return { type: "object", description, properties, required: types, additionalProperties: false };
}

const queues = Object.entries(document.channels).filter(([, channel]) => "x-redis" in channel);
const queueOf = Object.fromEntries(
  queues.flatMap(([queue, channel]) => Object.keys(channel.messages).map((type) => [type, queue])),
);

const defs = Object.fromEntries(
  Object.entries(document.components.schemas)
    .filter(([name]) => !name.includes(".") && name !== "StreamEntry")
    .map(([name, schema]) => [name, moved(schema)]),
);
const root = {
  $defs: {
    ...defs,
    Incoming: dataOf(Object.keys(queueOf), "What you publish: the data of each type."),
    Outgoing: dataOf(
      Object.keys(document.channels[OUTGOING].messages),
      "What you read from the stream: the data of each type.",
    ),
    MailInput: moved(document.components.schemas["sealed.mail"]),
    ThreadInput: moved(document.components.schemas["sealed.thread"]),
  },
};

const types = await compile(root, "Contract", {
  bannerComment: "// Made from deploy/contracts/asyncapi.json by scripts/generate.mjs.",
  unreachableDefinitions: true,
  ignoreMinAndMaxItems: true,
  additionalProperties: false,
  format: false,
});
const argumentsOf = Object.fromEntries(
  queues.map(([queue, channel]) => [queue, channel["x-amqp-queue-arguments"]]),
);
writeFileSync(
  TARGET,
  `${types}
/** The queue that takes each type. */
export const QUEUE_OF = ${JSON.stringify(queueOf, null, 2)} as const;

/** The arguments that each queue is declared with in RabbitMQ. */
export const QUEUE_ARGUMENTS = ${JSON.stringify(argumentsOf, null, 2)} as const;
`,
);
