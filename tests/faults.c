/* Preloaded into a command: makes one of its file operations in a folder fail, or kills the process there.

   FAULT_FOLDER  the folder, a path without links; if it is unset, no call is counted
   FAULT_LOG     gets a line for each call
   FAULT_AT      the number of the call that fails, from 1 on; 0 for none
   FAULT_ERRNO   the errno of the failure; 0 kills the process instead, before the call
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int calls;

/* Count a call on a path, or on a descriptor if there is no path; return whether the call has to fail. */
static int fails(const char *name, int folder, const char *path, int descriptor)
{
    const char *within = getenv("FAULT_FOLDER"), *log = getenv("FAULT_LOG");
    char whole[2 * PATH_MAX], link[64];
    ssize_t length = 0;
    int was = errno;
    if (!within || !log)
        return 0;
    whole[0] = 0;
    if (!path || path[0] != '/') {
        if (!path)
            snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        else if (folder == AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        length = readlink(link, whole, PATH_MAX - 1);
        whole[length < 0 ? 0 : length] = 0;
    }
    if (path) {
        if (whole[0])
            strcat(whole, "/");
        strncat(whole, path, PATH_MAX - 1);
    }
    errno = was;
    if (strncmp(whole, within, strlen(within)) || whole[strlen(within)] != '/')
        return 0;
    int at = atoi(getenv("FAULT_AT")), number = atoi(getenv("FAULT_ERRNO"));
    if (++calls == at && !number)
        kill(getpid(), SIGKILL);
    char line[3 * PATH_MAX];
    int size = snprintf(line, sizeof line, "%s %s\n", name, whole + strlen(within) + 1);
    int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    syscall(SYS_write, file, line, size);
    syscall(SYS_close, file);
    errno = calls == at ? number : was;
    return calls == at;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(type, name, arguments, names)                                                                          \
    type name arguments { return fails(#name, 0, NULL, file) ? -1 : REAL(name) names; }
#define ON_PATH(name, arguments, folder, path, names)                                                                  \
    int name arguments { return fails(#name, folder, path, 0) ? -1 : REAL(name) names; }

ON_FILE(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
ON_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
ON_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
ON_FILE(int, fsync, (int file), (file))
ON_FILE(int, fdatasync, (int file), (file))
ON_FILE(int, ftruncate, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, (int file, off64_t size), (file, size))
ON_PATH(rename, (const char *old, const char *new), AT_FDCWD, new, (old, new))
ON_PATH(renameat, (int in, const char *old, int to, const char *new), to, new, (in, old, to, new))
ON_PATH(link, (const char *old, const char *new), AT_FDCWD, new, (old, new))
ON_PATH(linkat, (int in, const char *old, int to, const char *new, int flags), to, new, (in, old, to, new, flags))
ON_PATH(unlink, (const char *path), AT_FDCWD, path, (path))
ON_PATH(unlinkat, (int folder, const char *path, int flags), folder, path, (folder, path, flags))
ON_PATH(rmdir, (const char *path), AT_FDCWD, path, (path))
ON_PATH(mkdir, (const char *path, mode_t mode), AT_FDCWD, path, (path, mode))
ON_PATH(mkdirat, (int folder, const char *path, mode_t mode), folder, path, (folder, path, mode))

/* Only where a file would be made or emptied. */
#define OPENS(name)                                                                                                    \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        if (flags & (O_CREAT | O_TRUNC) && fails(#name, AT_FDCWD, path, 0))                                            \
            return -1;                                                                                                 \
        return REAL(name)(path, flags, mode);                                                                          \
    }
OPENS(open)
OPENS(open64)
