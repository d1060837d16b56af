// What these examples share: one node of several, a message out, a message in, and when to ask
// again. The rest is PROTOCOL.md.
//
// NODES are endpoints with commas between them; after one that wants keys come a blank and the
// node's public key. WEFT_IDENTITY then names the file with one's own pair, as `weft keys new`
// writes it.
"use strict";

const { readFileSync } = require("node:fs");
const { setTimeout: pause } = require("node:timers/promises");
const { decodeMulti, encode } = require("@msgpack/msgpack");
const { Dealer } = require("zeromq");

/** One's own pair, as options of a socket. */
function identity() {
  const text = readFileSync(process.env.WEFT_IDENTITY, "utf8");
  const read = (name) => text.match(new RegExp(`^ *${name} *= *"(.*)"`, "m"))[1];
  return { curvePublicKey: read("public"), curveSecretKey: read("secret") };
}

/** A frame: the header, a map with one key, and then the records. */
function frame(name, fields, records = []) {
  return Buffer.concat([{ [name]: fields }, ...records].map((one) => encode(one)));
}

class Weft {
  constructor(nodes) {
    this.nodes = nodes.split(",").map((node) => node.trim().split(/\s+/));
    this.nextNode();
  }

  /** Leaves the node, if there is one, and connects to the next. */
  nextNode() {
    this.socket?.close();
    const [endpoint, curveServerKey] = this.nodes[0];
    this.nodes.push(this.nodes.shift());
    const keys = curveServerKey ? { curveServerKey, ...identity() } : {};
    this.socket = new Dealer({ linger: 0, heartbeatInterval: 1000, receiveTimeout: 5000, ...keys });
    this.socket.connect(endpoint);
  }

  async send(frame) {
    await this.socket.send(frame);
  }

  /** The next message: its name, fields, records and bytes. After 5 s of silence it has no name. */
  async receive() {
    let bytes;
    try {
      [bytes] = await this.socket.receive();
    } catch (error) {
      if (error.code === "EAGAIN") return { fields: {}, records: [] };
      throw error;
    }
    const [header, ...records] = decodeMulti(bytes);
    const [[name, fields]] = Object.entries(header);
    return { name, fields, records, size: bytes.length };
  }

  /**
   * Whether to ask again, which is then to be done at another node: it is connected. So it is after
   * silence, after a refusal that may pass, and where a node that stops ends a subscription. Any
   * other refusal ends the program, and so does a cursor that is somebody else's now.
   */
  async mustAskAgain({ name, fields }) {
    if (name !== undefined && name !== "refuse" && name !== "end") return false;
    const why = fields.message ?? fields.reason ?? "no answer";
    const lost = ["taken_over", "moved", "deleted"].includes(fields.reason);
    if (lost || (name === "refuse" && !fields.retry)) {
      console.error(`refused: ${why}`);
      process.exit(1);
    }
    console.error(`asking again: ${why}`);
    if (name === "refuse") await pause(fields.retry_after_ms ?? 100);
    this.nextNode();
    return true;
  }
}

module.exports = { Weft, frame };
