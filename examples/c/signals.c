/* Signals: not stored, at once, and a gap is seen. Listens, then speaks, and hears itself.

       signals [NODES]

   cc -std=c11 -o signals signals.c -lzmq */
#include "weft.h"

/* Three prices in one frame. Nothing answers. */
static void speak(Weft *weft) {
    static const char *prices[] = {"1.080", "1.081", "1.082"};
    Frame publish = {0};
    put_header(&publish, "publish", 1);
    put_str_field(&publish, "subject", "ticks.eur");
    for (int at = 0; at < 3; at++) {
        put_map(&publish, 1);
        put_bin_field(&publish, "body", prices[at], strlen(prices[at]));
    }
    send_frame(weft, &publish);
    free(publish.bytes);
}

/* As many bytes may come again. */
static void give_back(Weft *weft, uint64_t bytes) {
    Frame credit = {0};
    put_header(&credit, "credit", 2);
    put_int_field(&credit, "id", 1);
    put_int_field(&credit, "bytes", bytes);
    send_frame(weft, &credit);
    free(credit.bytes);
}

int main(int count, char **arguments) {
    Weft weft = open_weft(count > 1 ? arguments[1] : "tcp://127.0.0.1:7101");
    Frame subscribe = {0};
    put_header(&subscribe, "subscribe", 2);
    put_int_field(&subscribe, "id", 1);
    put_str_field(&subscribe, "pattern", "ticks.#");

    bool stands = false; /* The node knows the subscription, and has told the first sequence. */
    uint64_t expected = 0, heard = 0;
    send_frame(&weft, &subscribe);
    while (heard < 3) {
        const Message got = receive(&weft);
        if (must_ask_again(&weft, got)) {
            stands = false;
            send_frame(&weft, &subscribe);
        } else if (is(got.name, "deliver")) {
            const uint64_t sequence = int_field(got.fields, "sequence", 0);
            if (!stands) speak(&weft);
            if (stands && sequence > expected) printf("missed %" PRIu64 "\n", sequence - expected);
            stands = true;
            expected = sequence + int_field(got.fields, "count", 0);
            Objects left = got.records;
            for (; left.at != left.end; skip_object(&left), heard++) {
                printf(TEXT " " TEXT "\n", SHOW(text_field(left, "subject")),
                       SHOW(text_field(left, "body")));
            }
            if (left.at != got.records.at) {
                give_back(&weft, (uint64_t)(left.at - got.records.at));
            }
        }
    }
    return 0;
}
