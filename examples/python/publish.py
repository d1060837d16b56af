"""Publishes a record, and waits until a quorum of its replicas has it on disk.

    publish.py [NODES [SUBJECT [BODY]]]
"""

import uuid

from weft import Weft, arguments

nodes, subject, body = arguments("tcp://127.0.0.1:7101", "orders.eu.new", "two shirts")
weft = Weft(nodes)

# Who publishes, and the number of this publish. However often it is sent, and to whichever node, it is stored once.
publish = {"id": 1, "subject": subject, "producer": uuid.uuid4().bytes, "sequence": 1, "confirm": "quorum"}
record = {"key": "customer-42", "body": body.encode(), "headers": {"from": "publish.py"}}

weft.send("publish", publish, [record])
while True:
    name, fields, *_ = weft.receive()
    if weft.must_ask_again(name, fields):
        weft.send("publish", publish, [record])
    elif name == "confirm":
        [run] = fields["runs"]  # One record has one run.
        again = " (repeated)" if fields.get("repeated") else ""
        print(f"stored {fields['channel']}/{run['partition']}/{run['offset']}{again}")
        break
