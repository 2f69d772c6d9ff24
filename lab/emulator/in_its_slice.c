/* In the place of QEMU on a node of the lab: enters the VM's slice, as libvirt has every QEMU do on a host whose control
 * groups (version 2) have controllers, and then becomes QEMU. The lab's have none, so libvirt does not place it.
 *
 * It belongs to root with the set-user-ID bit, for libvirt starts it as QEMU's user, and gives that user back before it
 * goes on. A QEMU that is no guest's (libvirt asks it what it can do) goes on at once.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLICES "/sys/fs/cgroup/mnha.slice"

/* As systemd escapes it: see salt/_utils/mnha/fencer/slices.py. */
static void slice_of(char *path, size_t size, const char *guest)
{
    size_t length = (size_t)snprintf(path, size, SLICES "/mnha-");
    for (; *guest && *guest != ',' && length + 16 < size; guest++) {
        int plain = (*guest >= '0' && *guest <= '9') || (*guest >= 'A' && *guest <= 'Z')
            || (*guest >= 'a' && *guest <= 'z') || strchr(":_.", *guest);
        length += (size_t)snprintf(path + length, size - length, plain ? "%c" : "\\x%02x", (unsigned char)*guest);
    }
    snprintf(path + length, size - length, ".slice");
}

int main(int count, char **words)
{
    for (int number = 1; number + 1 < count; number++) {
        char path[512];
        int group;
        if (strcmp(words[number], "-name") || strncmp(words[number + 1], "guest=", 6))
            continue;
        mkdir(SLICES, 0755);
        slice_of(path, sizeof path, words[number + 1] + 6);
        mkdir(path, 0755);
        strncat(path, "/cgroup.procs", sizeof path - strlen(path) - 1);
        group = open(path, O_WRONLY);
        if (group < 0 || write(group, "0", 1) != 1) {
            perror(path);
            return 1;
        }
        close(group);
    }
    if (setresuid(getuid(), getuid(), getuid()))
        return 1;
    execv(REAL, words);
    perror(REAL);
    return 1;
}
