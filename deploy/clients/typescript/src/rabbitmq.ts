import { type ChannelModel, type ConfirmChannel, connect } from "amqplib";
import { QUEUE_ARGUMENTS } from "./contract.js";
import { BrokerAway } from "./errors.js";
import { message, type Queue, type QueueName } from "./queue.js";

interface Open {
  connection: ChannelModel;
  channel: ConfirmChannel;
  /** Messages that the broker gave back: it acknowledges them all the same. */
  returned: Set<string>;
}

/** The queues in RabbitMQ. */
export class RabbitMq implements Queue {
  readonly #url: string;
  #open: Promise<Open> | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  async depth(queue: QueueName): Promise<number> {
    return await this.#with(async ({ channel }) => {
      const declared = await channel.assertQueue(queue, { durable: true, arguments: QUEUE_ARGUMENTS[queue] });
      return declared.messageCount;
    });
  }

  async put(queue: QueueName, event: string): Promise<void> {
    await this.#with(async ({ channel, returned }) => {
      const carried = Buffer.from(message(queue, event), "utf8");
      await new Promise<void>((resolve, reject) => {
        channel.publish("", queue, carried, { mandatory: true, persistent: true }, (error) => {
          // The return of a message always comes before its acknowledgement.
          if (returned.delete(carried.toString("utf8"))) reject(new Error("no such queue"));
          else if (error) reject(error);
          else resolve();
        });
      });
    });
  }

  async close(): Promise<void> {
    const open = await this.#open?.catch(() => undefined);
    this.#open = undefined;
    await open?.connection.close().catch(() => undefined);
  }

  async #with<Answer>(act: (open: Open) => Promise<Answer>): Promise<Answer> {
    this.#open ??= this.#connect();
    const current = this.#open;
    try {
      return await act(await current);
    } catch (error) {
      // The next call opens a new connection; a channel that had an error is closed.
      if (this.#open === current) await this.close();
      throw new BrokerAway(error);
    }
  }

  async #connect(): Promise<Open> {
    const connection = await connect(this.#url, { timeout: 10_000 });
    connection.on("error", () => undefined);
    const channel = await connection.createConfirmChannel();
    const returned = new Set<string>();
    channel.on("error", () => undefined);
    channel.on("return", ({ content }: { content: Buffer }) => returned.add(content.toString("utf8")));
    const gone = (): void => {
      this.#open = undefined;
    };
    connection.on("close", gone);
    channel.on("close", gone);
    return { connection, channel, returned };
  }
}
