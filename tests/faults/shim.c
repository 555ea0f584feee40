/* Loaded before the C library: lets one call on files fail, so that every call of an operation can be made to, one after
 * the other. A test tells it what to do by opening paths that are not there:
 *   /fault/arm/K/E   the K-th call from here on (0: the next) of this thread fails with error number E; with E = 0, if it
 *                    writes, it writes the first half
 *   /fault/fired     not there (ENOENT) if no call was hit since, else "exists" (EEXIST)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static __thread long left = -1;
static __thread int number;
static __thread int fired;

/* Whether this call is the one. */
static int hit(void) {
    if (left < 0 || left-- > 0)
        return 0;
    fired = 1;
    if (number)
        errno = number;
    return 1;
}

static int fails(void) { return hit() && number; }

static int told(const char *path) {
    if (path == NULL || strncmp(path, "/fault/", 7) != 0)
        return 0;
    if (sscanf(path, "/fault/arm/%ld/%d", &left, &number) == 2)
        fired = 0;
    else
        left = -1;
    errno = fired ? EEXIST : ENOENT;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                                                                    \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return told(path) || fails() ? -1 : REAL(name)(path, flags, mode);                                             \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                                                                 \
    int name(int folder, const char *path, int flags, ...) {                                                           \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return fails() ? -1 : REAL(name)(folder, path, flags, mode);                                                   \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t write(int file, const void *bytes, size_t count) {
    if (file > 2 && hit()) {
        if (number)
            return -1;
        count = (count + 1) / 2;
    }
    return REAL(write)(file, bytes, count);
}

ssize_t read(int file, void *bytes, size_t count) {
    if (file > 2 && hit()) {
        if (number)
            return -1;
        count = (count + 1) / 2;
    }
    return REAL(read)(file, bytes, count);
}

#define ONE(name, type, argument)                                                                                      \
    int name(type argument) { return fails() ? -1 : REAL(name)(argument); }
ONE(fsync, int, file)
ONE(fdatasync, int, file)
ONE(unlink, const char *, path)
ONE(rmdir, const char *, path)

int rename(const char *from, const char *to) { return fails() ? -1 : REAL(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { return fails() ? -1 : REAL(mkdir)(path, mode); }
int unlinkat(int folder, const char *path, int flags) {
    return fails() ? -1 : REAL(unlinkat)(folder, path, flags);
}
int ftruncate64(int file, off64_t length) { return fails() ? -1 : REAL(ftruncate64)(file, length); }
DIR *opendir(const char *path) { return fails() ? NULL : REAL(opendir)(path); }
DIR *fdopendir(int folder) { return fails() ? NULL : REAL(fdopendir)(folder); }
struct dirent64 *readdir64(DIR *folder) { return fails() ? NULL : REAL(readdir64)(folder); }
int statx(int folder, const char *path, int flags, unsigned mask, struct statx *found) {
    return fails() ? -1 : REAL(statx)(folder, path, flags, mask, found);
}
