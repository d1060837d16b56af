// Signals: not stored, at once, and a gap is seen. Listens, then speaks, and hears itself.
//
//     node signals.js [NODES]
"use strict";

const { Weft, frame } = require("./weft");

async function main(nodes = "tcp://127.0.0.1:7101") {
  const weft = new Weft(nodes);
  const subscribe = frame("subscribe", { id: 1, pattern: "ticks.#" });
  const prices = ["1.080", "1.081", "1.082"].map((price) => ({ body: Buffer.from(price) }));

  let expected; // The sequence of the next signal, once the subscription stands.
  let heard = 0;
  await weft.send(subscribe);
  while (heard < 3) {
    const got = await weft.receive();
    if (await weft.mustAskAgain(got)) {
      expected = undefined;
      await weft.send(subscribe);
    } else if (got.name === "deliver") {
      const { sequence, count } = got.fields;
      if (expected === undefined) {
        await weft.send(frame("publish", { subject: "ticks.eur" }, prices));
      } else if (sequence > expected) {
        console.log(`missed ${sequence - expected}`);
      }
      expected = sequence + count;
      for (const { subject, body } of got.records) console.log(subject, `${Buffer.from(body)}`);
      heard += got.records.length;
      // They are read. A little too much, the header's bytes, does no harm.
      if (count > 0) await weft.send(frame("credit", { id: 1, bytes: got.size }));
    }
  }
}

main(...process.argv.slice(2)).then(() => process.exit(0));
