"""What these examples share: a message out, a message in. The rest is PROTOCOL.md."""

import sys

import msgpack
import zmq


def arguments(*defaults):
    """The command line's arguments, and the defaults of those that are not there."""
    given = sys.argv[1:]
    return given + list(defaults[len(given):])


def connect(endpoint):
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
    socket.connect(endpoint)
    return socket


def send(socket, name, fields, records=()):
    """One frame: the header, a map with one key, and then the records."""
    socket.send(b"".join(msgpack.packb(one) for one in ({name: fields}, *records)))


def receive(socket):
    """The next message: its name, its fields, its records and their bytes. After 5 s of silence the name is None."""
    if not socket.poll(5000):
        return None, {}, [], 0
    frame = socket.recv()
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(frame)
    [(name, fields)] = unpacker.unpack().items()
    size = len(frame) - unpacker.tell()
    return name, fields, list(unpacker), size
