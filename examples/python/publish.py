"""Publishes a record, and waits until a quorum of its replicas has it on disk.

    publish.py [ENDPOINT [SUBJECT [BODY]]]
"""

import sys
import time
import uuid

from weft import arguments, connect, receive, send

endpoint, subject, body = arguments("tcp://127.0.0.1:7101", "orders.eu.new", "two shirts")
node = connect(endpoint)

# Who publishes, and the number of this publish. However often it is sent, it is stored once.
publish = {"id": 1, "subject": subject, "producer": uuid.uuid4().bytes, "sequence": 1, "confirm": "quorum"}
record = {"key": "customer-42", "body": body.encode(), "headers": {"from": "publish.py"}}

send(node, "publish", publish, [record])
while True:
    name, fields, *_ = receive(node)
    if name == "confirm":
        [run] = fields["runs"]
        print(f"stored {fields['channel']}/{run['partition']}/{run['offset']}")
        break
    if name == "refuse" and not fields["retry"]:
        sys.exit(f"refused: {fields['message']}")
    if name in ("refuse", None):
        print("sending again:", fields.get("message", "no answer"), file=sys.stderr, flush=True)
        time.sleep(fields.get("retry_after_ms", 0) / 1000)
        send(node, "publish", publish, [record])
