"""Reads a pattern with a cursor, from where the last run left off, and acks what it printed. Ends after COUNT records.

    cursor.py NAME [ENDPOINT [PATTERN [COUNT]]]
"""

import sys

from weft import arguments, connect, receive, send

cursor, endpoint, pattern, count = arguments("billing", "tcp://127.0.0.1:7101", "orders.#", "inf")
node = connect(endpoint)
left, asked, kept = float(count), 0, 0
subscribe = {"id": 1, "pattern": pattern, "from": "start", "cursor": cursor}

send(node, "subscribe", subscribe)
# What has no answer yet is not known to be kept: it would come again.
while left > 0 or kept < asked:
    name, fields, records, _ = receive(node)
    if name is None:
        asked = kept
        send(node, "subscribe", subscribe)
    elif name == "refuse":
        sys.exit(f"refused: {fields['message']}")
    elif name == "end":
        sys.exit(f"the cursor is lost: {fields['reason']}")
    elif name == "cursor":
        kept += 1
    elif name == "deliver" and records and left > 0:
        offsets = [run["offset"] + n for run in fields["runs"] for n in range(run["count"])]
        done = list(zip(offsets, records))[: int(min(left, len(records)))]
        for offset, record in done:
            print(f"{fields['channel']}/{fields['partition']}/{offset}", record["body"].decode(), flush=True)
        left, asked = left - len(done), asked + 1
        # All up to the last one printed, with the token that came with them; an answer is wanted.
        ack = {"id": 1, "channel": fields["channel"], "partition": fields["partition"], "offset": done[-1][0]}
        send(node, "ack", ack | {"token": fields["token"], "request": asked})
