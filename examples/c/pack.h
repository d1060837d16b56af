/* Writes MessagePack: the four forms that PROTOCOL.md asks for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Objects being written, one after another. Begins as {0}. */
typedef struct { uint8_t *bytes; size_t size, room; } Frame;

static inline void put(Frame *frame, const void *bytes, size_t size) {
    if (frame->size + size > frame->room) {
        frame->room = 2 * (frame->size + size);
        frame->bytes = realloc(frame->bytes, frame->room);
        if (frame->bytes == NULL) abort();
    }
    if (size > 0) memcpy(frame->bytes + frame->size, bytes, size);
    frame->size += size;
}

/* A type, then a number of `width` bytes, the highest first. */
static inline void put_head(Frame *frame, uint8_t type, int width, uint64_t number) {
    uint8_t head[9] = {type};
    for (int at = width; at > 0; at--, number >>= 8) head[at] = (uint8_t)number;
    put(frame, head, 1 + (size_t)width);
}

static inline void put_map(Frame *frame, uint64_t pairs) {
    put_head(frame, 0xdf, 4, pairs);
}

static inline void put_int(Frame *frame, uint64_t number) {
    put_head(frame, 0xcf, 8, number);
}

static inline void put_bin(Frame *frame, const void *bytes, size_t size) {
    put_head(frame, 0xc6, 4, size);
    put(frame, bytes, size);
}

static inline void put_str(Frame *frame, const char *text) {
    put_head(frame, 0xdb, 4, strlen(text));
    put(frame, text, strlen(text));
}

/* The header's map of one pair, up to its fields, which come next. */
static inline void put_header(Frame *frame, const char *name, uint64_t fields) {
    put_map(frame, 1);
    put_str(frame, name);
    put_map(frame, fields);
}

static inline void put_int_field(Frame *frame, const char *name, uint64_t number) {
    put_str(frame, name);
    put_int(frame, number);
}

static inline void put_str_field(Frame *frame, const char *name, const char *text) {
    put_str(frame, name);
    put_str(frame, text);
}

static inline void put_bin_field(Frame *frame, const char *name, const void *bytes, size_t size) {
    put_str(frame, name);
    put_bin(frame, bytes, size);
}
