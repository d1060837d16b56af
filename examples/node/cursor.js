// Reads a pattern with a cursor, from where the last run left off, and acks what it printed. Ends
// after COUNT records.
//
//     node cursor.js NAME [NODES [PATTERN [COUNT]]]
"use strict";

const { Weft, frame } = require("./weft");

/** The records of a `deliver` with their offsets. */
function* placed({ fields, records }) {
  let at = 0;
  for (const { offset, count } of fields.runs ?? []) {
    for (let n = 0; n < count; n++) yield { offset: offset + n, record: records[at++] };
  }
}

async function main(
  cursor = "billing",
  nodes = "tcp://127.0.0.1:7101",
  pattern = "orders.#",
  count = "Infinity",
) {
  const weft = new Weft(nodes);
  const subscribe = frame("subscribe", { id: 1, pattern, from: "start", cursor });

  // What has no answer yet is not known to be kept: it would come again.
  let [printed, kept] = [0, 0];
  await weft.send(subscribe);
  while (kept < Number(count)) {
    const got = await weft.receive();
    const { id, channel, partition, token, request } = got.fields;
    if (await weft.mustAskAgain(got)) {
      printed = kept;
      await weft.send(subscribe);
    } else if (got.name === "cursor") {
      kept += request;
    } else if (got.name === "deliver") {
      const done = [...placed(got)].slice(0, Number(count) - printed);
      for (const { offset, record } of done) {
        console.log(`${channel}/${partition}/${offset} ${Buffer.from(record.body)}`);
      }
      if (done.length === 0) continue;
      // All up to the last one printed, with the token that came with it. The answer brings the
      // request back: how many.
      printed += done.length;
      const ack = { id, channel, partition, token, offset: done.at(-1).offset };
      await weft.send(frame("ack", { ...ack, request: done.length }));
    }
  }
}

main(...process.argv.slice(2)).then(() => process.exit(0));
