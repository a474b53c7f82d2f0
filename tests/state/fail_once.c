/* Lets one call towards the disk fail, as a full or a bad disk does.

   Loaded with LD_PRELOAD into a process that writes below $FAIL_ROOT. $FAIL_CONTROL is a file of 4096 bytes, shared with
   whoever looks: a countdown (0: nothing fails), the errno, then at byte 64 the call that failed and its path. What
   opens, writes, syncs, renames or makes a folder below the root counts down; the one that reaches zero fails. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile int *control(void)
{
    static volatile int *shared;
    const char *name = getenv("FAIL_CONTROL");
    if (!shared && name) {
        int file = open(name, O_RDWR);
        void *mapped = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        shared = mapped == MAP_FAILED ? 0 : mapped;
    }
    return shared;
}

static int fails(const char *call, const char *path)
{
    const char *root = getenv("FAIL_ROOT");
    if (!root || strncmp(path, root, strlen(root)) || strstr(path, "server."))
        return 0;
    volatile int *shared = control();
    if (!shared || shared[0] <= 0 || __sync_sub_and_fetch(&shared[0], 1))
        return 0;
    snprintf((char *)shared + 64, 1000, "%s %s", call, path + strlen(root));
    errno = shared[1];
    return 1;
}

static int fails_on(const char *call, int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(call, path);
}

#define REAL(type, name, ...) type (*really)(__VA_ARGS__) = dlsym(RTLD_NEXT, name)

int fsync(int descriptor)
{
    REAL(int, "fsync", int);
    return fails_on("fsync", descriptor) ? -1 : really(descriptor);
}

int fdatasync(int descriptor)
{
    REAL(int, "fdatasync", int);
    return fails_on("fdatasync", descriptor) ? -1 : really(descriptor);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return fails("rename", to) ? -1 : really(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    return access(path, F_OK) && fails("mkdir", path) ? -1 : really(path, mode);
}

ssize_t write(int descriptor, const void *bytes, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return descriptor > 2 && fails_on("write", descriptor) ? -1 : really(descriptor, bytes, size);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t at)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return fails_on("pwrite64", descriptor) ? -1 : really(descriptor, bytes, size, at);
}

int open64(const char *path, int flags, ...)
{
    REAL(int, "open64", const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return (flags & O_CREAT) && access(path, F_OK) && fails("open", path) ? -1 : really(path, flags, mode);
}
