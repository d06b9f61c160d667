/* A witness between a program and the files of one folder, put in with LD_PRELOAD.
 *
 * It writes down every call that changes what is on disk, in the order in which the calls returned, and can make them
 * fail. What a power cut could leave is made from that list by simulators/disk/model.py.
 *
 *   TRAM_DISK_UNDER   the folder; everything outside of it passes untouched
 *   TRAM_DISK_TRACE   the list, appended to by single writes, so that other processes can put marks between the calls
 *   TRAM_DISK_FAULTS  16 bytes shared with whoever controls the faults: struct faults below, zeros for none
 *
 * The shared memory of SQLite's WAL (-shm) is left out: it is made anew after a power cut.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096

struct entry { /* before path, second path and data; all little-endian on the machines this runs on */
    uint32_t op, path_size, other_size, data_size;
    int64_t inode, at;
};
struct faults {
    int32_t error;         /* errno that changes give; 0: none */
    uint32_t of_thousand;  /* how many of a thousand fail */
    uint32_t random;       /* seed, then state */
    uint32_t failed;       /* how many have failed */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char under[PATH_MAX];
static size_t under_size;
static int trace = -1;
static volatile struct faults *faults;
static unsigned char watched[FILES];

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("TRAM_DISK_UNDER"), *list = getenv("TRAM_DISK_TRACE"), *control = getenv("TRAM_DISK_FAULTS");
    if (!folder) return;
    snprintf(under, sizeof under, "%s/", folder);
    under_size = strlen(under);
    if (list) trace = REAL(open)(list, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (control) {
        int fd = REAL(open)(control, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            void *page = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (page != MAP_FAILED) faults = page;
            REAL(close)(fd);
        }
    }
}

static int is_watched_path(const char *path) {
    size_t size = strlen(path);
    if (!under_size || (size > 4 && !strcmp(path + size - 4, "-shm"))) return 0;
    return !strncmp(path, under, under_size) || (size + 1 == under_size && !strncmp(path, under, size));
}

static int is_watched(int fd) { return fd >= 0 && fd < FILES && watched[fd]; }

static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
}

static void note(char op, int64_t inode, int64_t at, const char *path, const char *other, const void *data, size_t size) {
    if (trace < 0) return;
    struct entry entry = {(uint32_t)op, (uint32_t)strlen(path), (uint32_t)strlen(other), (uint32_t)size, inode, at};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)path, entry.path_size}, {(void *)other, entry.other_size}, {(void *)data, size}};
    int before = errno;
    if (writev(trace, parts, 4) < 0) abort(); /* a list with a hole would prove nothing */
    errno = before;
}

static void note_fd(char op, int fd, int64_t at, const void *data, size_t size) {
    char path[PATH_MAX];
    struct stat status;
    if (trace < 0 || fstat(fd, &status)) return;
    path_of(fd, path);
    note(op, (int64_t)status.st_ino, at, path, "", data, size);
}

/* Whether this call shall fail; errno is set then. Call it with the lock held. */
static int fails(void) {
    if (!faults || !faults->error) return 0;
    faults->random = faults->random * 1664525u + 1013904223u;
    if ((faults->random >> 8) % 1000 >= faults->of_thousand) return 0;
    faults->failed++;
    errno = faults->error;
    return 1;
}

static int opened(int fd, int flags, int was_there) {
    char path[PATH_MAX];
    if (fd < 0 || fd >= FILES) return fd;
    path_of(fd, path);
    watched[fd] = (unsigned char)is_watched_path(path);
    if (!watched[fd]) return fd;
    if (!was_there && (flags & O_CREAT)) note_fd('O', fd, 0, "", 0);
    else if ((flags & O_TRUNC) && (flags & (O_WRONLY | O_RDWR))) note_fd('T', fd, 0, "", 0);
    return fd;
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    int changes = flags & (O_CREAT | O_TRUNC);
    pthread_mutex_lock(&lock);
    int was_there = !changes || !faccessat(folder, path, F_OK, AT_SYMLINK_NOFOLLOW);
    int fd = -1;
    if (!(changes && !was_there && is_watched_path(path) && fails())) fd = opened(REAL(openat)(folder, path, flags, mode), flags, was_there);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE() mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE() return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE() return open_at(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE() return open_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE() return open_at(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FILES) watched[fd] = 0;
    int result = REAL(close)(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static ssize_t written_at(int fd, const void *data, size_t size, off_t at, int moves) {
    pthread_mutex_lock(&lock);
    ssize_t result = -1;
    if (moves) at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    if (!fails()) result = moves ? REAL(write)(fd, data, size) : REAL(pwrite)(fd, data, size, at);
    if (result > 0) note_fd('W', fd, at, data, (size_t)result);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t write(int fd, const void *data, size_t size) { return is_watched(fd) ? written_at(fd, data, size, 0, 1) : REAL(write)(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return is_watched(fd) ? written_at(fd, data, size, at, 0) : REAL(pwrite)(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }

int ftruncate(int fd, off_t size) {
    if (!is_watched(fd)) return REAL(ftruncate)(fd, size);
    pthread_mutex_lock(&lock);
    int result = fails() ? -1 : REAL(ftruncate)(fd, size);
    if (!result) note_fd('T', fd, size, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int synced(int fd, int (*sync)(int)) {
    if (!is_watched(fd)) return sync(fd);
    pthread_mutex_lock(&lock);
    int result = fails() ? -1 : sync(fd);
    if (!result) note_fd('S', fd, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

/* These take absolute paths: the folder is named by one, and the program makes its names from it. */
static int renamed(const char *from, const char *to) {
    if (!is_watched_path(from) && !is_watched_path(to)) return REAL(rename)(from, to);
    pthread_mutex_lock(&lock);
    int result = fails() ? -1 : REAL(rename)(from, to);
    if (!result) note('R', 0, 0, from, to, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int rename(const char *from, const char *to) { return renamed(from, to); }
int renameat(int a, const char *from, int b, const char *to) {
    return a == AT_FDCWD && b == AT_FDCWD ? renamed(from, to) : REAL(renameat)(a, from, b, to);
}

int unlink(const char *path) {
    if (!is_watched_path(path)) return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    int result = fails() ? -1 : REAL(unlink)(path);
    if (!result) note('U', 0, 0, path, "", "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int unlinkat(int folder, const char *path, int flags) {
    return folder == AT_FDCWD && !(flags & AT_REMOVEDIR) ? unlink(path) : REAL(unlinkat)(folder, path, flags);
}
