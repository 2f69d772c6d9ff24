/* Loaded before libc (LD_PRELOAD), this lets User-Mode Linux 6.1 run on processors whose registers it does not know all
   of, such as those with AMX. It keeps 2,696 bytes of each program's extended registers, which is all up to AVX-512, and
   gives that many back; the kernel below takes the whole set or refuses (EFAULT), and every program in the machine dies.
   What is missing is zeros here: registers that the header says are in their initial state. No program there can have
   used them, for it would have had to ask for them, and User-Mode Linux refuses that. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

typedef long (*Ptrace)(enum __ptrace_request, ...);

static unsigned char whole[1 << 16];
static size_t size; /* of the whole set; 0: not asked yet */

long ptrace(enum __ptrace_request request, ...)
{
    static Ptrace real;
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (!real)
        real = (Ptrace)dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || (unsigned long)address != NT_X86_XSTATE)
        return real(request, pid, address, data);
    struct iovec *given = data;
    if (!size) {
        struct iovec all = {whole, sizeof whole};
        if (real(PTRACE_GETREGSET, pid, address, &all) < 0)
            return real(request, pid, address, data);
        size = all.iov_len;
        memset(whole, 0, sizeof whole);
    }
    if (given->iov_len >= size)
        return real(request, pid, address, data);
    memcpy(whole, given->iov_base, given->iov_len);
    struct iovec all = {whole, size};
    return real(request, pid, address, &all);
}
