/*
 * Writes a heartbeat to the guest's disk, so that the host can prove afterwards which instance of the VM ran when.
 *
 * The disk is a ring of 512-byte slots; record number seq lies in slot seq % slots. Each record is one aligned
 * O_DIRECT|O_DSYNC write: on the disk before the next one is begun. Before each write two slots are read back: that
 * of the own last record, and the one about to be written. If the first holds anything else, or the second holds a
 * record that is not older, then another instance wrote since: OVERLAP, on the console and as a record.
 *
 * Layout (little endian; lab/records.py reads it):
 *   0 magic "MNHAHB01" | 8 u32 kind | 12 u32 crc32 of the slot with this field 0 | 16 u64 seq | 24 boot id (16)
 *   40 u64 epoch | 48 u64 counter | 56 u64 boottime_ns | 64 u64 realtime_ns | 72 boot id of the other (16) | zeros
 *
 * usage: heartbeat DEVICE EPOCH INTERVAL_MS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLOT 512
#define CHUNK (1 << 20)
#define MAGIC "MNHAHB01"
#define UNREADABLE (-1)
enum kind { BOOT = 1, BEAT = 2, OVERLAP = 3 };

struct record {
    char magic[8];
    uint32_t kind, crc;
    uint64_t seq;
    uint8_t boot_id[16];
    uint64_t epoch, counter, boottime_ns, realtime_ns;
    uint8_t other[16];
    uint8_t zeros[SLOT - 88];
} __attribute__((packed));

_Static_assert(sizeof(struct record) == SLOT, "a record fills its slot");

static int disk;
static uint64_t slots;
static struct record *buffer;
static char boot_text[40];
static uint8_t boot_id[16];
static uint64_t epoch;

static uint32_t crc32_of(const void *data, size_t length)
{
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++)
                c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
            table[i] = c;
        }
    uint32_t crc = ~0u;
    for (const uint8_t *p = data; length--; p++)
        crc = table[(crc ^ *p) & 0xFF] ^ (crc >> 8);
    return ~crc;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static int is_valid(struct record *r)
{
    if (memcmp(r->magic, MAGIC, 8) != 0)
        return 0;
    uint32_t crc = r->crc;
    r->crc = 0;
    int same = crc32_of(r, SLOT) == crc;
    r->crc = crc;
    return same;
}

static int is_mine(const struct record *r) { return memcmp(r->boot_id, boot_id, 16) == 0; }

static void hex(const uint8_t *id, char *out)
{
    for (int i = 0; i < 16; i++)
        sprintf(out + 2 * i, "%02x", id[i]);
}

/* Reads slot seq % slots into a copy: 1 if it holds a valid record, 0 if not, UNREADABLE if there is no telling. */
static int read_slot(uint64_t seq, struct record *copy)
{
    memset(copy, 0, SLOT);
    if (pread(disk, buffer, SLOT, (off_t)(seq % slots) * SLOT) != SLOT) {
        printf("mnha-heartbeat ERROR reading: %s\n", strerror(errno));
        return UNREADABLE;
    }
    *copy = *buffer;
    return is_valid(copy);
}

static int write_record(enum kind kind, uint64_t seq, uint64_t counter, const uint8_t *other)
{
    memset(buffer, 0, SLOT);
    memcpy(buffer->magic, MAGIC, 8);
    buffer->kind = kind;
    buffer->seq = seq;
    memcpy(buffer->boot_id, boot_id, 16);
    buffer->epoch = epoch;
    buffer->counter = counter;
    buffer->boottime_ns = now_ns(CLOCK_BOOTTIME);
    buffer->realtime_ns = now_ns(CLOCK_REALTIME);
    if (other)
        memcpy(buffer->other, other, 16);
    buffer->crc = crc32_of(buffer, SLOT);
    if (pwrite(disk, buffer, SLOT, (off_t)(seq % slots) * SLOT) == SLOT)
        return 1;
    printf("mnha-heartbeat ERROR writing record %llu: %s\n", (unsigned long long)seq, strerror(errno));
    return 0;
}

/* The newest record of the whole ring; false if there is none. */
static int find_head(struct record *head)
{
    int found = 0;
    struct record *chunk = NULL;
    if (posix_memalign((void **)&chunk, 4096, CHUNK) != 0)
        return 0;
    for (uint64_t at = 0; at < slots * SLOT; at += CHUNK) {
        ssize_t got = pread(disk, chunk, CHUNK, at);
        for (ssize_t i = 0; i < got / SLOT; i++) {
            if (memcmp(chunk[i].magic, MAGIC, 8) == 0 && (!found || chunk[i].seq > head->seq) &&
                is_valid(&chunk[i])) {
                *head = chunk[i];
                found = 1;
            }
        }
    }
    free(chunk);
    return found;
}

static int read_boot_id(void)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!file || !fgets(boot_text, sizeof boot_text, file))
        return 0;
    fclose(file);
    int n = 0;
    for (const char *p = boot_text; *p && n < 32; p++) {
        int v = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : -1;
        if (v >= 0) {
            boot_id[n / 2] = n % 2 ? boot_id[n / 2] | v : v << 4;
            n++;
        }
    }
    hex(boot_id, boot_text);
    return n == 32;
}

/* Is somebody else writing? Then the other's boot id goes to `other`. UNREADABLE if a slot can't be read. */
static int sees_overlap(uint64_t last, uint8_t *other)
{
    struct record r;
    int found = read_slot(last, &r);
    if (found == UNREADABLE)
        return UNREADABLE;
    if (!found || !is_mine(&r) || r.seq != last) {
        memcpy(other, r.boot_id, 16);
        return 1;
    }
    found = read_slot(last + 1, &r);
    if (found == UNREADABLE)
        return UNREADABLE;
    if (found && r.seq > last) {
        memcpy(other, r.boot_id, 16);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: heartbeat DEVICE EPOCH INTERVAL_MS\n");
        return 2;
    }
    fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK); /* a stuck console must not stop the heartbeat */
    setvbuf(stdout, NULL, _IOLBF, 0);
    epoch = strtoull(argv[2], NULL, 10);
    uint64_t interval_ns = strtoull(argv[3], NULL, 10) * 1000000u;
    disk = open(argv[1], O_RDWR | O_DIRECT | O_DSYNC);
    if (disk < 0 || !read_boot_id() || posix_memalign((void **)&buffer, 4096, 4096) != 0) {
        printf("mnha-heartbeat ERROR opening %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    slots = lseek(disk, 0, SEEK_END) / SLOT;
    struct record head;
    uint64_t seq = 0, counter = 0;
    if (find_head(&head)) {
        seq = head.seq + 1;
        counter = is_mine(&head) ? head.counter + 1 : 0;
    }
    while (!write_record(BOOT, seq, counter, NULL))
        sleep(1);
    printf("mnha-heartbeat BOOT boot=%s epoch=%llu counter=%llu seq=%llu\n", boot_text, (unsigned long long)epoch,
           (unsigned long long)counter, (unsigned long long)seq);
    uint64_t next = now_ns(CLOCK_MONOTONIC), printed = next;
    for (;;) {
        next += interval_ns;
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        if (next > now) {
            struct timespec t = {next / 1000000000u, next % 1000000000u};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        } else
            next = now;
        uint8_t other[16] = {0};
        int seen = sees_overlap(seq, other);
        if (seen == UNREADABLE)
            continue; /* a disk that is going away, at the guest's end: nothing is known, and nothing written */
        if (seen) {
            char text[40];
            hex(other, text);
            printf("mnha-heartbeat OVERLAP boot=%s epoch=%llu other=%s seq=%llu\n", boot_text,
                   (unsigned long long)epoch, text, (unsigned long long)seq);
            if (find_head(&head) && head.seq > seq)
                seq = head.seq;
            write_record(OVERLAP, ++seq, ++counter, other);
            continue;
        }
        if (!write_record(BEAT, seq + 1, counter + 1, NULL))
            continue; /* the old record still is the last one; try again */
        seq++;
        counter++;
        now = now_ns(CLOCK_MONOTONIC);
        if (now - printed >= 1000000000u) {
            printed = now;
            printf("mnha-heartbeat beat boot=%s epoch=%llu counter=%llu seq=%llu\n", boot_text,
                   (unsigned long long)epoch, (unsigned long long)counter, (unsigned long long)seq);
        }
    }
}
