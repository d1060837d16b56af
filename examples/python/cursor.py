"""Reads a pattern with a cursor, from where the last run left off, and acks what it printed. Ends after COUNT records.

    cursor.py NAME [NODES [PATTERN [COUNT]]]
"""

from weft import Weft, arguments

cursor, nodes, pattern, count = arguments("billing", "tcp://127.0.0.1:7101", "orders.#", "inf")
weft = Weft(nodes)
subscribe = {"id": 1, "pattern": pattern, "from": "start", "cursor": cursor}

# What has no answer yet is not known to be kept: it would come again.
printed = kept = 0
weft.send("subscribe", subscribe)
while kept < float(count):
    name, fields, records, _ = weft.receive()
    if weft.must_ask_again(name, fields):
        printed = kept
        weft.send("subscribe", subscribe)
    elif name == "cursor":
        kept += fields["request"]
    elif name == "deliver" and records and printed < float(count):
        offsets = [run["offset"] + n for run in fields["runs"] for n in range(run["count"])]
        done = list(zip(offsets, records))[: int(min(float(count) - printed, len(records)))]
        for offset, record in done:
            print(f"{fields['channel']}/{fields['partition']}/{offset}", record["body"].decode(), flush=True)
        # All up to the last one printed, with the token that came with them. The answer brings the request back: how many.
        printed += len(done)
        ack = {field: fields[field] for field in ("id", "channel", "partition", "token")}
        weft.send("ack", ack | {"offset": done[-1][0], "request": len(done)})
