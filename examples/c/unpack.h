/* Reads MessagePack: every form, and none beyond the end of what came. */
#include <inttypes.h>
#include <string.h>

/* Objects being read. At their end, and where they are malformed, there is none. */
typedef struct { const uint8_t *at, *end; } Objects;

/* Its kind: 'i'nteger, 's'tr or bin, 'm'ap, 'a'rray, 'b'ool, 'n'il, 'f'loat, e'x'tension, 0 for
   none; its value, or how many bytes, pairs or objects it has; the bytes of a str or bin. Nothing
   in the protocol is below zero, so no sign is read. */
typedef struct { char kind; uint64_t number; const uint8_t *bytes; } Object;

/* Takes the next object. The insides of a map or an array come next. */
static inline Object next_object(Objects *in) {
    static const char kinds[] = "n-bbsssxxxffiiiiiiiixxxxxsssaamm";
    static const uint8_t widths[] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8,
                                     1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
    const uint8_t *at = in->at, *end = in->end;
    in->at = end; /* Unless all is well. */
    if (at == end || *at == 0xc1) return (Object){0};
    uint8_t type = *at++;
    Object one = {'i', type, NULL};
    if (type >= 0x80 && type < 0xc0) {
        one.kind = type < 0x90 ? 'm' : type < 0xa0 ? 'a' : 's';
        one.number = type & (type < 0xa0 ? 15 : 31);
    } else if (type >= 0xc0 && type < 0xe0) {
        int width = widths[type - 0xc0];
        if (end - at < width) return (Object){0};
        one.kind = kinds[type - 0xc0];
        one.number = one.kind == 'b' ? type & 1 : 0;
        if (type >= 0xd4 && type <= 0xd8) one.number = 1u << (type - 0xd4);
        while (width-- > 0) one.number = one.number << 8 | *at++;
    }
    if (one.kind == 's' || one.kind == 'x') {
        uint64_t size = one.number + (one.kind == 'x'); /* An extension says which. */
        if ((uint64_t)(end - at) < size) return (Object){0};
        one.bytes = at;
        at += size;
    }
    in->at = at;
    return one;
}

/* Passes over the next object and all that is in it. */
static inline void skip_object(Objects *in) {
    for (uint64_t left = 1; left > 0 && in->at != in->end; left--) {
        Object one = next_object(in);
        left += one.kind == 'm' ? 2 * one.number : one.kind == 'a' ? one.number : 0;
    }
}

static inline int is(Object one, const char *text) {
    const size_t size = strlen(text);
    return one.kind == 's' && one.number == size && memcmp(one.bytes, text, size) == 0;
}

/* From what a field of the map that comes next holds on; nothing where it is missing. */
static inline Objects field(Objects map, const char *name) {
    for (uint64_t left = next_object(&map).number; left > 0 && map.at != map.end; left--) {
        if (is(next_object(&map), name)) return map;
        skip_object(&map);
    }
    return (Objects){0};
}

static inline uint64_t int_field(Objects map, const char *name, uint64_t otherwise) {
    Objects value = field(map, name);
    Object one = next_object(&value);
    return one.kind == 'i' || one.kind == 'b' ? one.number : otherwise;
}

/* A str or a bin of the map that comes next; an empty one where it is missing. */
static inline Object text_field(Objects map, const char *name) {
    Objects value = field(map, name);
    Object one = next_object(&value);
    return one.kind == 's' ? one : (Object){'s', 0, NULL};
}

#define TEXT "%.*s" /* As `printf` takes one. */
#define SHOW(text) (int)(text).number, (const char *)(text).bytes
