/* Remembers what a power failure would leave: of each file its content at its last fsync, of each folder its names.

   Loaded with LD_PRELOAD into a process that writes below $DROP_ROOT. At every fsync or fdatasync the file's bytes, or
   the folder's names with the inodes behind them, are copied to $DROP_SHADOW/<inode>-<birth>. Whatever was never synced
   has no entry there. `tests/state/power.py` puts a folder together from that.

   While there is a file $DROP_SHADOW/stop, the process stops before every such call, and before every renaming below
   the root: whoever looks then sees the folder as a death at that moment leaves it, and sends SIGCONT. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void identify(int directory, const char *name, int flags, char *out, size_t size)
{
    struct statx found;
    memset(&found, 0, sizeof found);
    statx(directory, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_INO, &found);
    snprintf(out, size, "%llu-%lld.%u", (unsigned long long)found.stx_ino, (long long)found.stx_btime.tv_sec,
             found.stx_btime.tv_nsec);
}

static void note(int descriptor)
{
    const char *root = getenv("DROP_ROOT"), *shadow = getenv("DROP_SHADOW");
    char link[64], path[4096], identity[128], aside[4400], target[4400];
    struct stat found;
    if (!root || !shadow || fstat(descriptor, &found))
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return;
    path[length] = 0;
    if (strncmp(path, root, strlen(root)))
        return;
    identify(descriptor, "", AT_EMPTY_PATH, identity, sizeof identity);
    snprintf(target, sizeof target, "%s/%s", shadow, identity);
    snprintf(aside, sizeof aside, "%s.%d.%d", target, (int)getpid(), descriptor);
    FILE *out = fopen(aside, "w");
    if (!out)
        return;
    if (S_ISDIR(found.st_mode)) {
        DIR *listing = opendir(link);
        struct dirent *entry;
        while (listing && (entry = readdir(listing))) {
            char one[128];
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
                continue;
            identify(dirfd(listing), entry->d_name, 0, one, sizeof one);
            fprintf(out, "%s %c %s\n", one, entry->d_type == DT_DIR ? 'd' : 'f', entry->d_name);
        }
        if (listing)
            closedir(listing);
    } else {
        char chunk[65536];
        off_t at = 0;
        ssize_t got;
        int own = open(link, O_RDONLY);
        while (own >= 0 && (got = pread(own, chunk, sizeof chunk, at)) > 0) {
            fwrite(chunk, 1, (size_t)got, out);
            at += got;
        }
        if (own >= 0)
            close(own);
    }
    fclose(out);
    rename(aside, target);
}

static void stop(const char *path)
{
    const char *root = getenv("DROP_ROOT"), *shadow = getenv("DROP_SHADOW");
    char told[4200];
    if (!root || !shadow || strncmp(path, root, strlen(root)))
        return;
    snprintf(told, sizeof told, "%s/stop", shadow);
    if (!access(told, F_OK))
        raise(SIGSTOP);
}

static void stop_before(int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return;
    path[length] = 0;
    stop(path);
}

/* The disk itself is left in peace: what counts is what was asked of it. */
int fsync(int descriptor)
{
    stop_before(descriptor);
    note(descriptor);
    return 0;
}

int fdatasync(int descriptor)
{
    stop_before(descriptor);
    note(descriptor);
    return 0;
}

int rename(const char *from, const char *to)
{
    int (*really)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    stop(to);
    return really(from, to);
}
