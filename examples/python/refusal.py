"""A node that says no says why, and whether it is worth asking again.

    refusal.py [ENDPOINT [SUBJECT]]
"""

import sys

from weft import arguments, connect, receive, send

endpoint, subject = arguments("tcp://127.0.0.1:7101", "nowhere.at.all")
node = connect(endpoint)
send(node, "publish", {"id": 1, "subject": subject, "confirm": "quorum"}, [{"body": b"lost?"}])

name, fields, *_ = receive(node)
if name != "refuse":
    sys.exit(f"not refused: {name} {fields}")
print(fields["code"], fields["name"], "again" if fields["retry"] else "final")
print(fields["message"])
