/* A connection to one node of several.

   NODES are endpoints with commas between them; after one that wants keys come a blank and the
   node's public key. WEFT_IDENTITY then names the file with one's own pair, as `weft keys new`
   writes it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

typedef struct {
    void *context, *socket;
    const char *nodes, *rest; /* All, and those whose turn comes before the first one's again. */
    char public[41], secret[41];
    zmq_msg_t frame; /* The message that was received last lies in it. */
} Weft;

/* Leaves the node, if there is one, and connects to the next. */
static inline void next_node(Weft *weft) {
    char endpoint[256], key[41];
    const int linger = 0, heartbeat = 1000;
    if (weft->socket != NULL) zmq_close(weft->socket);
    if (*weft->rest == '\0') weft->rest = weft->nodes;
    const int found = sscanf(weft->rest, " %255[^ ,] %40[^,]", endpoint, key);
    weft->rest += strcspn(weft->rest, ",");
    weft->rest += *weft->rest == ',';
    weft->socket = zmq_socket(weft->context, ZMQ_DEALER);
    zmq_setsockopt(weft->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(weft->socket, ZMQ_HEARTBEAT_IVL, &heartbeat, sizeof heartbeat);
    if (found == 2) {
        zmq_setsockopt(weft->socket, ZMQ_CURVE_SERVERKEY, key, sizeof key);
        zmq_setsockopt(weft->socket, ZMQ_CURVE_PUBLICKEY, weft->public, sizeof weft->public);
        zmq_setsockopt(weft->socket, ZMQ_CURVE_SECRETKEY, weft->secret, sizeof weft->secret);
    }
    if (found < 1 || zmq_connect(weft->socket, endpoint) != 0) {
        fprintf(stderr, "%s: %s\n", weft->nodes, zmq_strerror(zmq_errno()));
        exit(1);
    }
}

static inline Weft open_weft(const char *nodes) {
    Weft weft = {.context = zmq_ctx_new(), .nodes = nodes, .rest = nodes};
    const char *identity = getenv("WEFT_IDENTITY");
    FILE *file = identity == NULL ? NULL : fopen(identity, "r");
    for (char line[256]; file != NULL && fgets(line, sizeof line, file) != NULL;) {
        sscanf(line, " public = \"%40[^\"]", weft.public);
        sscanf(line, " secret = \"%40[^\"]", weft.secret);
    }
    if (file != NULL) fclose(file);
    zmq_msg_init(&weft.frame);
    next_node(&weft);
    return weft;
}
