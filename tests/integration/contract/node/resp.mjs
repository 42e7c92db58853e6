// A client for Redis and what speaks its protocol: RESP 2, over TCP, TLS or a unix socket.
// Source: https://redis.io/docs/latest/develop/reference/protocol-spec/

import net from "node:net";
import tls from "node:tls";

/** Raised where the server answers with an error. */
export class RedisError extends Error {}

/** Connects to `redis://`, `rediss://` or `unix://`, in the database that the URL names. */
export async function connect(address) {
  const url = new URL(address);
  const client = new Client(await open(url));
  if (url.password) {
    const user = url.username ? [decodeURIComponent(url.username)] : [];
    await client.command("AUTH", ...user, decodeURIComponent(url.password));
  }
  const path = url.protocol === "unix:" ? "" : url.pathname.slice(1);
  await client.command("SELECT", url.searchParams.get("db") ?? (path || "0"));
  return client;
}

function open(url) {
  const port = Number(url.port || 6379);
  const socket =
    url.protocol === "unix:"
      ? net.connect({ path: decodeURIComponent(url.pathname) })
      : url.protocol === "rediss:"
        ? tls.connect({ host: url.hostname, port })
        : net.connect({ host: url.hostname, port });
  return new Promise((resolve, reject) => {
    socket.once(url.protocol === "rediss:" ? "secureConnect" : "connect", () => resolve(socket));
    socket.once("error", reject);
  });
}

class Client {
  constructor(socket) {
    this.socket = socket;
    this.waiting = [];
    this.received = Buffer.alloc(0);
    socket.on("data", (chunk) => this.take(chunk));
    socket.on("error", (error) => this.fail(error));
    socket.on("close", () => this.fail(new Error("the connection was closed")));
  }

  /** Sends one command; its answer. Raises `RedisError`. */
  command(...words) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.socket.write(encode(words));
    });
  }

  /** Sends commands as one transaction; their answers. Raises `RedisError`. */
  async transaction(...commands) {
    const sent = [["MULTI"], ...commands, ["EXEC"]].map((words) => this.command(...words));
    const answers = await Promise.allSettled(sent);
    for (const answer of answers) {
      if (answer.status === "rejected") throw answer.reason;
    }
    return answers.at(-1).value;
  }

  close() {
    this.socket.removeAllListeners("close");
    this.socket.end();
  }

  take(chunk) {
    this.received = Buffer.concat([this.received, chunk]);
    for (let found; this.waiting.length && (found = parse(this.received, 0)); ) {
      this.received = this.received.subarray(found.end);
      const { resolve, reject } = this.waiting.shift();
      if (found.value instanceof RedisError) reject(found.value);
      else resolve(found.value);
    }
  }

  fail(error) {
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }
}

function encode(words) {
  const parts = [Buffer.from(`*${words.length}\r\n`)];
  for (const word of words) {
    const bytes = Buffer.from(String(word));
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

/** The value that begins at `start` and where it ends; nothing where it has not arrived whole. */
function parse(bytes, start) {
  const line = bytes.indexOf("\r\n", start);
  if (line < 0) return undefined;
  const kind = String.fromCharCode(bytes[start]);
  const text = bytes.toString("utf8", start + 1, line);
  const end = line + 2;
  if (kind === "+") return { value: text, end };
  if (kind === "-") return { value: new RedisError(text), end };
  if (kind === ":") return { value: Number(text), end };
  const length = Number(text);
  if (length < 0) return { value: null, end };
  if (kind === "$") {
    const stop = end + length;
    if (bytes.length < stop + 2) return undefined;
    return { value: bytes.toString("utf8", end, stop), end: stop + 2 };
  }
  const value = [];
  let at = end;
  for (let index = 0; index < length; index += 1) {
    const found = parse(bytes, at);
    if (!found) return undefined;
    value.push(found.value);
    at = found.end;
  }
  return { value, end: at };
}
