"""Signals: not stored, at once, and a gap is seen. Listens, then speaks, and hears itself.

    signals.py [ENDPOINT]
"""

import sys

from weft import arguments, connect, receive, send

[endpoint] = arguments("tcp://127.0.0.1:7101")
node = connect(endpoint)
send(node, "subscribe", {"id": 1, "pattern": "ticks.#"})

expected = None  # The sequence of the next signal.
while expected is None or expected < 3:
    name, fields, records, size = receive(node)
    if name is None:
        send(node, "subscribe", {"id": 1, "pattern": "ticks.#"})
    elif name == "refuse":
        sys.exit(f"refused: {fields['message']}")
    elif name == "deliver":
        sequence = fields.get("sequence", 0)
        if expected is None:  # The subscription stands.
            prices = [{"subject": "ticks.eur", "body": b"1.08%d" % n} for n in range(3)]
            send(node, "publish", {"subject": "ticks.eur"}, prices)
        elif sequence > expected:
            print(f"missed {sequence - expected} signals")
        for record in records:
            print(record["subject"], record["body"].decode())
        expected = sequence + len(records)
        if records:  # They are read: as many bytes may come again.
            send(node, "credit", {"id": 1, "bytes": size})
