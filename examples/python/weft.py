"""What these examples share: one node of several, a message out, a message in, and when to ask again. The rest is
PROTOCOL.md.

NODES are endpoints with commas between them; after one that wants keys come a blank and the node's public key.
WEFT_IDENTITY then names the file with one's own pair, as `weft keys new` writes it.
"""

import os
import re
import sys
import time
from itertools import cycle

import msgpack
import zmq


def arguments(*defaults):
    """The command line's arguments, and the defaults of those that are not there."""
    given = sys.argv[1:]
    return given + list(defaults[len(given):])


def identity():
    """One's own pair: the public key and the secret one."""
    with open(os.environ["WEFT_IDENTITY"], encoding="utf-8") as file:
        pair = dict(re.findall(r'^\s*(public|secret)\s*=\s*"(.*)"', file.read(), re.MULTILINE))
    return pair["public"].encode(), pair["secret"].encode()


class Weft:
    def __init__(self, nodes):
        self.nodes = cycle([node.split() for node in nodes.split(",")])
        self.socket = None
        self.next_node()

    def next_node(self):
        """Leaves the node, if there is one, and connects to the next."""
        if self.socket:
            self.socket.close()
        endpoint, *key = next(self.nodes)
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        if key:
            self.socket.curve_serverkey = key[0].encode()
            self.socket.curve_publickey, self.socket.curve_secretkey = identity()
        self.socket.connect(endpoint)

    def send(self, name, fields, records=()):
        """One frame: the header, a map with one key, and then the records."""
        self.socket.send(b"".join(msgpack.packb(one) for one in ({name: fields}, *records)))

    def receive(self):
        """The next message: its name, its fields, its records and their bytes. After 5 s of silence the name is None."""
        if not self.socket.poll(5000):
            return None, {}, [], 0
        frame = self.socket.recv()
        unpacker = msgpack.Unpacker(max_buffer_size=0)
        unpacker.feed(frame)
        [(name, fields)] = unpacker.unpack().items()
        size = len(frame) - unpacker.tell()
        return name, fields, list(unpacker), size

    def must_ask_again(self, name, fields):
        """Whether to ask again, which is then to be done at another node: it is connected. So it is after silence, after a
        refusal that may pass, and where a node that stops ends a subscription. Any other refusal ends the program, and so
        does a cursor that is somebody else's now."""
        if name not in (None, "refuse", "end"):
            return False
        why = fields.get("message") or fields.get("reason") or "no answer"
        if name == "refuse" and not fields["retry"] or fields.get("reason") in ("taken_over", "moved", "deleted"):
            sys.exit(f"refused: {why}")
        print("asking again:", why, file=sys.stderr, flush=True)
        if name == "refuse":
            time.sleep(fields.get("retry_after_ms", 100) / 1000)
        self.next_node()
        return True
