/* What the examples share: a message out, a message in, and when to ask again. The rest is
   PROTOCOL.md. */
#include <stdbool.h>

#include "nodes.h"
#include "pack.h"
#include "unpack.h"

/* What was received. It lies in the connection, and is good until the next one. */
typedef struct { Object name; Objects fields, records; } Message;

static inline void send_frame(Weft *weft, const Frame *frame) {
    zmq_send(weft->socket, frame->bytes, frame->size, 0);
}

/* The next message. It has no name after 5 s of silence. */
static inline Message receive(Weft *weft) {
    zmq_pollitem_t waiting = {weft->socket, 0, ZMQ_POLLIN, 0};
    Message got = {0};
    if (zmq_poll(&waiting, 1, 5000) <= 0) return got;
    if (zmq_msg_recv(&weft->frame, weft->socket, 0) < 0) return got;
    const uint8_t *bytes = zmq_msg_data(&weft->frame);
    Objects header = {bytes, bytes + zmq_msg_size(&weft->frame)};
    got.records = header;
    skip_object(&got.records);
    next_object(&header); /* A map of one pair: the name, and its fields. */
    got.name = next_object(&header);
    got.fields = header;
    return got;
}

/* A field as it stands in the map that comes next in `map`. */
static inline void copy_field(Frame *frame, Objects map, const char *name) {
    Objects value = field(map, name), after = value;
    skip_object(&after);
    put_str(frame, name);
    put(frame, value.at, (size_t)(after.at - value.at));
}

/* Whether to ask again, which is then to be done at another node: it is connected. So it is after
   silence, after a refusal that may pass, and where a node that stops ends a subscription. Any
   other refusal ends the program, and so does a cursor that is somebody else's now. */
static inline bool must_ask_again(Weft *weft, Message got) {
    const bool silent = got.name.kind == 0, refused = is(got.name, "refuse");
    if (!silent && !refused && !is(got.name, "end")) return false;
    Object why = {'s', 9, (const uint8_t *)"no answer"};
    if (!silent) why = text_field(got.fields, refused ? "message" : "reason");
    const bool lost = is(why, "taken_over") || is(why, "moved") || is(why, "deleted");
    if (lost || (refused && int_field(got.fields, "retry", 0) == 0)) {
        fprintf(stderr, "refused: " TEXT "\n", SHOW(why));
        exit(1);
    }
    fprintf(stderr, "asking again: " TEXT "\n", SHOW(why));
    if (refused) zmq_poll(NULL, 0, (long)int_field(got.fields, "retry_after_ms", 100));
    next_node(weft);
    return true;
}
