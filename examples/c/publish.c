/* Publishes a record, and waits until a quorum of its replicas has it on disk.

       publish [NODES [SUBJECT [BODY]]]

   cc -std=c11 -o publish publish.c -lzmq */
#include "weft.h"

int main(int count, char **arguments) {
    Weft weft = open_weft(count > 1 ? arguments[1] : "tcp://127.0.0.1:7101");
    const char *subject = count > 2 ? arguments[2] : "orders.eu.new";
    const char *body = count > 3 ? arguments[3] : "two shirts";

    /* Who publishes: nobody else has this name. */
    uint8_t producer[16];
    FILE *random = fopen("/dev/urandom", "r");
    if (random == NULL || fread(producer, sizeof producer, 1, random) != 1) return 1;

    /* However often these bytes are sent, and to whichever node, the record is stored once. */
    Frame publish = {0};
    put_header(&publish, "publish", 5);
    put_int_field(&publish, "id", 1);
    put_str_field(&publish, "subject", subject);
    put_str_field(&publish, "confirm", "quorum");
    put_bin_field(&publish, "producer", producer, sizeof producer);
    put_int_field(&publish, "sequence", 1);
    put_map(&publish, 2);
    put_str_field(&publish, "key", "customer-42");
    put_bin_field(&publish, "body", body, strlen(body));

    send_frame(&weft, &publish);
    for (;;) {
        const Message got = receive(&weft);
        if (must_ask_again(&weft, got)) {
            send_frame(&weft, &publish);
        } else if (is(got.name, "confirm")) {
            Objects run = field(got.fields, "runs");
            next_object(&run); /* An array; one record has one run. */
            printf("stored " TEXT "/%" PRIu64 "/%" PRIu64 "%s\n",
                   SHOW(text_field(got.fields, "channel")), int_field(run, "partition", 0),
                   int_field(run, "offset", 0),
                   int_field(got.fields, "repeated", 0) ? " (repeated)" : "");
            return 0;
        }
    }
}
