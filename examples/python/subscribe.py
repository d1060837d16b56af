"""Prints what a pattern selects: all that is stored, then what comes. Ends after COUNT records.

    subscribe.py [NODES [PATTERN [COUNT]]]
"""

from weft import Weft, arguments

nodes, pattern, count = arguments("tcp://127.0.0.1:7101", "orders.#", "inf")
weft = Weft(nodes)
left = float(count)

# Where each partition goes on. One that is not named here starts as `from` says.
offsets = {}
subscribe = {"id": 1, "pattern": pattern, "from": "start", "offsets": offsets}

weft.send("subscribe", subscribe)
while left > 0:
    name, fields, records, _ = weft.receive()
    if weft.must_ask_again(name, fields):
        weft.send("subscribe", subscribe)
    elif name == "deliver" and "next" in fields:
        partition = f"{fields['channel']}/{fields['partition']}"
        stamps = ((run, n) for run in fields.get("runs", ()) for n in range(run["count"]))
        for (run, n), record in zip(stamps, records):
            print(f"{partition}/{run['offset'] + n}", record["subject"], record["body"].decode(), flush=True)
        left -= len(records)
        offsets[partition] = fields["next"]
        if records:  # They are done with: the node may send as many bytes again.
            last = run["offset"] + n
            weft.send("ack", {"id": 1, "channel": fields["channel"], "partition": fields["partition"], "offset": last})
