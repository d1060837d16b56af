"""Signals: not stored, at once, and a gap is seen. Listens, then speaks, and hears itself.

    signals.py [NODES]
"""

from weft import Weft, arguments

[nodes] = arguments("tcp://127.0.0.1:7101")
weft = Weft(nodes)
subscribe = {"id": 1, "pattern": "ticks.#"}

expected = None  # The sequence of the next signal, once the subscription stands.
heard = 0
weft.send("subscribe", subscribe)
while heard < 3:
    name, fields, records, size = weft.receive()
    if weft.must_ask_again(name, fields):
        expected = None
        weft.send("subscribe", subscribe)
    elif name == "deliver":
        if expected is None:
            weft.send("publish", {"subject": "ticks.eur"}, [{"body": b"1.08%d" % n} for n in range(3)])
        elif fields["sequence"] > expected:
            print(f"missed {fields['sequence'] - expected}")
        for record in records:
            print(record["subject"], record["body"].decode())
        expected = fields["sequence"] + len(records)
        heard += len(records)
        if records:  # They are read: as many bytes may come again.
            weft.send("credit", {"id": 1, "bytes": size})
