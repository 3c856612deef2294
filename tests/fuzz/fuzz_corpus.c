/* Writes the seed corpus: fuzz_corpus DIR makes DIR/frame, DIR/request ... with one file for each
 * sample message, in the form that the fuzzers read (a byte of choice, then the bytes).
 */
#include "storage/log_group.h"
#include "tests/unit/wire_sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char *root;

static void write_file(const char *folder, size_t number, uint8_t choice, struct slice bytes)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", root, folder);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/seed-%zu", root, folder, number);
    FILE *f = fopen(path, "wb");
    if (!f || fputc(choice, f) == EOF || fwrite(bytes.data, 1, bytes.len, f) != bytes.len ||
        fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static void must(int r)
{
    if (r < 0) {
        fprintf(stderr, "cannot pack: %s\n", err_text(r));
        exit(1);
    }
}

/* One message: its body for its own fuzzer, and its frame at the end of the stream for the framing.
 */
static void write_message(const char *folder, size_t number, struct buf *frame, struct buf *stream)
{
    write_file(
        folder, number, 0xff,
        slice_of(frame->data + LIMIT_FRAME_HEADER_BYTES, frame->len - LIMIT_FRAME_HEADER_BYTES));
    if (frame->len < 64)
        must(buf_append_slice(stream, buf_slice(frame)));
    frame->len = 0;
}

/* Two records for the walk, and a whole group with them. */
static void write_log(void)
{
    uint8_t group[LOG_GROUP_HEADER_BYTES + 2 * LOG_RECORD_HEADER_BYTES + 5] = {0};
    uint8_t *records = group + LOG_GROUP_HEADER_BYTES;
    struct log_group g = {.format = LOG_GROUP_FORMAT,
                          .log_id = 1,
                          .generation = 1,
                          .seq = 1,
                          .count = 2,
                          .length = sizeof(group) - LOG_GROUP_HEADER_BYTES};
    struct iovec iov = {.iov_base = records, .iov_len = g.length};

    log_record_encode(1, 5, records);
    log_record_encode(2, 0, records + LOG_RECORD_HEADER_BYTES + 5);
    log_group_encode(&g, &iov, 1, group);
    write_file("log", 0, 1, slice_of(records, g.length));
    write_file("log", 1, 0, slice_of(group, sizeof(group)));
}

int main(int argc, char **argv)
{
    struct wire_request requests[SAMPLE_REQUESTS];
    struct wire_response responses[SAMPLE_RESPONSES];
    struct wire_peer peers[SAMPLE_PEERS];
    struct buf frame = {0}, stream = {0};

    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_corpus DIR\n");
        return 2;
    }
    root = argv[1];
    mkdir(root, 0777);
    sample_requests(requests);
    sample_responses(responses);
    sample_peers(peers);
    for (size_t i = 0; i < SAMPLE_REQUESTS; i++) {
        must(wire_request_pack(&requests[i], &frame));
        write_message("request", i, &frame, &stream);
    }
    for (size_t i = 0; i < SAMPLE_RESPONSES; i++) {
        must(wire_response_pack(&responses[i], &frame));
        write_message("response", i, &frame, &stream);
    }
    for (size_t i = 0; i < SAMPLE_PEERS; i++) {
        must(wire_peer_pack(&peers[i], &frame));
        write_message("peer", i, &frame, &stream);
    }
    struct wire_ring *ring = sample_ring(LIMIT_PARTITIONS_MIN, 3, 3);
    must(wire_ring_pack(ring, &frame));
    write_file("ring", 0, 0xff, buf_slice(&frame));
    sample_ring_free(ring);
    write_file("frame", 0, 1, buf_slice(&stream));
    write_file("frame", 1, 7, slice_of(stream.data, stream.len / 2));
    write_file("frame", 2, 255, buf_slice(&stream));
    write_log();
    buf_deinit(&frame);
    buf_deinit(&stream);
    return 0;
}
