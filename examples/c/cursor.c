/* Reads a pattern with a cursor, from where the last run left off, and acks what it printed. Ends
   after COUNT records.

       cursor NAME [NODES [PATTERN [COUNT]]]

   cc -std=c11 -o cursor cursor.c -lzmq */
#include "weft.h"

/* Acks all up to `offset`, with the token that came with it. The answer brings `request` back. */
static void ack(Weft *weft, Objects deliver, uint64_t offset, uint64_t request) {
    Frame frame = {0};
    put_header(&frame, "ack", 6);
    copy_field(&frame, deliver, "id");
    copy_field(&frame, deliver, "channel");
    copy_field(&frame, deliver, "partition");
    copy_field(&frame, deliver, "token");
    put_int_field(&frame, "offset", offset);
    put_int_field(&frame, "request", request);
    send_frame(weft, &frame);
    free(frame.bytes);
}

/* Prints the records of a `deliver`, `most` at most, and acks them. Gives how many, which is also
   the number of the ack's request. */
static uint64_t print(Weft *weft, Message got, uint64_t most) {
    Objects runs = field(got.fields, "runs"), records = got.records;
    uint64_t printed = 0, offset = 0, left = 0;
    next_object(&runs); /* An array; its first run comes next. */
    for (; records.at != records.end && printed < most; printed++, offset++, left--) {
        if (left == 0) {
            offset = int_field(runs, "offset", 0);
            left = int_field(runs, "count", 0);
            skip_object(&runs);
        }
        printf(TEXT "/%" PRIu64 "/%" PRIu64 " " TEXT "\n", SHOW(text_field(got.fields, "channel")),
               int_field(got.fields, "partition", 0), offset, SHOW(text_field(records, "body")));
        skip_object(&records);
    }
    fflush(stdout);
    if (printed > 0) ack(weft, got.fields, offset - 1, printed);
    return printed;
}

int main(int count, char **arguments) {
    Weft weft = open_weft(count > 2 ? arguments[2] : "tcp://127.0.0.1:7101");
    const uint64_t wanted = count > 4 ? strtoull(arguments[4], NULL, 10) : UINT64_MAX;

    Frame subscribe = {0};
    put_header(&subscribe, "subscribe", 4);
    put_int_field(&subscribe, "id", 1);
    put_str_field(&subscribe, "pattern", count > 3 ? arguments[3] : "orders.#");
    put_str_field(&subscribe, "from", "start");
    put_str_field(&subscribe, "cursor", count > 1 ? arguments[1] : "billing");

    /* What has no answer yet is not known to be kept: it would come again. */
    uint64_t printed = 0, kept = 0;
    send_frame(&weft, &subscribe);
    while (kept < wanted) {
        const Message got = receive(&weft);
        if (must_ask_again(&weft, got)) {
            printed = kept;
            send_frame(&weft, &subscribe);
        } else if (is(got.name, "cursor")) {
            kept += int_field(got.fields, "request", 0);
        } else if (is(got.name, "deliver")) {
            printed += print(&weft, got, wanted - printed);
        }
    }
    return 0;
}
