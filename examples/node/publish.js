// Publishes a record, and waits until a quorum of its replicas has it on disk.
//
//     node publish.js [NODES [SUBJECT [BODY]]]
"use strict";

const { randomBytes } = require("node:crypto");
const { Weft, frame } = require("./weft");

async function main(
  nodes = "tcp://127.0.0.1:7101",
  subject = "orders.eu.new",
  body = "two shirts",
) {
  const weft = new Weft(nodes);

  // Who publishes, and the number of this publish. However often these bytes are sent, and to
  // whichever node, the record is stored once.
  const publish = frame(
    "publish",
    { id: 1, subject, confirm: "quorum", producer: randomBytes(16), sequence: 1 },
    [{ key: "customer-42", body: Buffer.from(body), headers: { from: "publish.js" } }],
  );

  await weft.send(publish);
  for (;;) {
    const got = await weft.receive();
    if (await weft.mustAskAgain(got)) {
      await weft.send(publish);
    } else if (got.name === "confirm") {
      const { channel, repeated } = got.fields;
      const [{ partition, offset }] = got.fields.runs; // One record has one run.
      console.log(`stored ${channel}/${partition}/${offset}${repeated ? " (repeated)" : ""}`);
      return;
    }
  }
}

main(...process.argv.slice(2)).then(() => process.exit(0));
