"""A node that says no says why, and whether it is worth asking again.

    refusal.py [NODES [SUBJECT]]
"""

import sys

from weft import Weft, arguments

nodes, subject = arguments("tcp://127.0.0.1:7101", "nowhere.at.all")
weft = Weft(nodes)
weft.send("publish", {"id": 1, "subject": subject, "confirm": "quorum"}, [{"body": b"lost?"}])

name, fields, *_ = weft.receive()
if name != "refuse":
    sys.exit(f"not refused: {name} {fields}")
print(fields["code"], fields["name"], "again" if fields["retry"] else "final")
print(fields["message"])
