"""Prints what a pattern selects: all that is stored, then what comes. Ends after COUNT records.

    subscribe.py [ENDPOINT [PATTERN [COUNT]]]
"""

import sys

from weft import arguments, connect, receive, send

endpoint, pattern, count = arguments("tcp://127.0.0.1:7101", "orders.#", "inf")
node = connect(endpoint)
left = float(count)

# Where each partition goes on. One that is not named here starts as `from` says.
offsets = {}
subscribe = {"id": 1, "pattern": pattern, "from": "start", "offsets": offsets}

send(node, "subscribe", subscribe)
while left > 0:
    name, fields, records, _ = receive(node)
    if name is None:
        send(node, "subscribe", subscribe)
    elif name == "refuse":
        sys.exit(f"refused: {fields['message']}")
    elif name == "deliver" and "next" in fields:
        partition = f"{fields['channel']}/{fields['partition']}"
        stamps = ((run, n) for run in fields.get("runs", ()) for n in range(run["count"]))
        for (run, n), record in zip(stamps, records):
            print(f"{partition}/{run['offset'] + n}", record["subject"], record["body"].decode(), flush=True)
        left -= len(records)
        offsets[partition] = fields["next"]
        if records:  # They are done with: the node may send as many bytes again.
            last = run["offset"] + n
            send(node, "ack", {"id": 1, "channel": fields["channel"], "partition": fields["partition"], "offset": last})
