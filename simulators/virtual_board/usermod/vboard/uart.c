// UART n of the board is the terminal named by VB_UART<n>: a pty of the bench, or a real serial port. Where it may be on
// several pins, VB_UART<n>_TX<pin> names the terminal those pins lead to.
//
// A board does not notice when the far end of its wires is taken away. So when the terminal hangs up, the file
// descriptor is "parked" on a timer that fires twice a second: a poll() on it neither spins nor sleeps for ever, and
// every firing tries the path again. The descriptor's number stays the same all along, which is what asyncio polls.
//
// The system gives the number of a pty that is gone to the next one, so a link left behind by a killed program soon
// points to somebody else's terminal. It shows: that terminal is younger than the link.
#define _GNU_SOURCE  // dup3
#include "vboard.h"
#include "py/runtime.h"
#include "py/mphal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#define UARTS 4
#define REOPEN_MS 500
#define WAIT_SLICE_MS 50

typedef struct {
    const char *path;
    int fd;  // 0: never opened (0 is the console)
    bool parked;
    int baud, bits, parity, stop;
} uart_t;

static uart_t uarts[UARTS];

static speed_t speed_of(int baud) {
    static const struct { int baud; speed_t speed; } speeds[] = {
        {1200, B1200}, {2400, B2400}, {4800, B4800}, {9600, B9600}, {19200, B19200}, {38400, B38400},
        {57600, B57600}, {115200, B115200}, {230400, B230400}, {460800, B460800}, {921600, B921600},
    };
    for (size_t i = 0; i < MP_ARRAY_SIZE(speeds); i++) {
        if (speeds[i].baud == baud) { return speeds[i].speed; }
    }
    return B0;
}

static bool is_somebody_elses(const uart_t *uart, int fd, bool again) {
    struct stat link, terminal;
    if (fstat(fd, &terminal) != 0 || lstat(uart->path, &link) != 0) { return true; }
    unsigned kind = major(terminal.st_rdev);
    if (kind < 136 || kind > 143) { return false; }  // not a pty
    if (!S_ISLNK(link.st_mode)) { return again; }
    return terminal.st_ctim.tv_sec > link.st_mtim.tv_sec
        || (terminal.st_ctim.tv_sec == link.st_mtim.tv_sec && terminal.st_ctim.tv_nsec > link.st_mtim.tv_nsec);
}

static int open_terminal(const uart_t *uart, bool again) {
    int fd = open(uart->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) { return -1; }
    if (is_somebody_elses(uart, fd, again)) {
        close(fd);
        return -1;
    }
    struct termios t;
    if (tcgetattr(fd, &t) == 0) {
        cfmakeraw(&t);
        t.c_cflag = (t.c_cflag & ~(CSIZE | PARENB | PARODD | CSTOPB)) | CLOCAL | CREAD | (uart->bits == 7 ? CS7 : CS8);
        if (uart->parity >= 0) { t.c_cflag |= PARENB | (uart->parity ? PARODD : 0); }
        if (uart->stop == 2) { t.c_cflag |= CSTOPB; }
        speed_t speed = speed_of(uart->baud);
        if (speed != B0) { cfsetispeed(&t, speed); cfsetospeed(&t, speed); }
        tcsetattr(fd, TCSANOW, &t);
    }
    tcflush(fd, TCIFLUSH);  // what arrived before the UART was set up was never received
    return fd;
}

static int open_timer(void) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec each = {{0, REOPEN_MS * 1000000}, {0, REOPEN_MS * 1000000}};
    if (fd >= 0) { timerfd_settime(fd, 0, &each, NULL); }
    return fd;
}

// Put what `fd` refers to under the UART's own descriptor number.
static void settle(uart_t *uart, int fd, bool parked) {
    if (fd < 0) { mp_raise_OSError(errno); }
    if (uart->fd == 0) {
        uart->fd = fd;
    } else {
        dup3(fd, uart->fd, O_CLOEXEC);
        close(fd);
    }
    uart->parked = parked;
}

static void park(uart_t *uart) { settle(uart, open_timer(), true); }

static uart_t *uart_get(mp_obj_t id_in) {
    mp_int_t id = mp_obj_get_int(id_in);
    if (id < 0 || id >= UARTS || uarts[id].fd == 0) { mp_raise_OSError(EBADF); }
    return &uarts[id];
}

// True when the wire is there. A parked UART tries its path again each time its timer has fired.
static bool connected(uart_t *uart) {
    if (uart->parked) {
        uint64_t fired;
        if (read(uart->fd, &fired, sizeof fired) != sizeof fired) { return false; }
        int fd = open_terminal(uart, true);
        if (fd < 0) { return false; }
        settle(uart, fd, false);
    }
    struct pollfd p = {uart->fd, POLLIN, 0};
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL))) {
        park(uart);
        return false;
    }
    return true;
}

// uart_open(id, baud, bits, parity (-1 none, 0 even, 1 odd), stop, TX pin (-1 as it is wired))
static mp_obj_t uart_open(size_t n_args, const mp_obj_t *args) {
    mp_int_t id = mp_obj_get_int(args[0]);
    char name[32];
    snprintf(name, sizeof name, "VB_UART%d_TX%d", (int)id, (int)mp_obj_get_int(args[5]));
    const char *path = (id < 0 || id >= UARTS) ? NULL : getenv(name);
    if (path == NULL && id >= 0 && id < UARTS) {
        snprintf(name, sizeof name, "VB_UART%d", (int)id);
        path = getenv(name);
    }
    if (path == NULL) { mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("UART(%d) is not wired on this board"), (int)id); }
    uart_t *uart = &uarts[id];
    uart->path = path;
    uart->baud = mp_obj_get_int(args[1]);
    uart->bits = mp_obj_get_int(args[2]);
    uart->parity = mp_obj_get_int(args[3]);
    uart->stop = mp_obj_get_int(args[4]);
    int fd = open_terminal(uart, false);
    if (fd < 0) { park(uart); } else { settle(uart, fd, false); }
    return mp_const_none;
}
MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(vboard_uart_open_obj, 6, 6, uart_open);

static mp_obj_t uart_close(mp_obj_t id) {
    uart_t *uart = uart_get(id);
    close(uart->fd);
    uart->fd = 0;
    return mp_const_none;
}
MP_DEFINE_CONST_FUN_OBJ_1(vboard_uart_close_obj, uart_close);

static mp_obj_t uart_fileno(mp_obj_t id) { return MP_OBJ_NEW_SMALL_INT(uart_get(id)->fd); }
MP_DEFINE_CONST_FUN_OBJ_1(vboard_uart_fileno_obj, uart_fileno);

static mp_obj_t uart_any(mp_obj_t id) {
    uart_t *uart = uart_get(id);
    int n = 0;
    if (connected(uart)) { ioctl(uart->fd, FIONREAD, &n); }
    return mp_obj_new_int(n);
}
MP_DEFINE_CONST_FUN_OBJ_1(vboard_uart_any_obj, uart_any);

// uart_wait(id, timeout_ms): wait until there is something to read.
static mp_obj_t uart_wait(mp_obj_t id, mp_obj_t timeout_ms) {
    uart_t *uart = uart_get(id);
    mp_uint_t start = mp_hal_ticks_ms(), waited, timeout = mp_obj_get_int(timeout_ms);
    do {
        waited = mp_hal_ticks_ms() - start;
        mp_uint_t left = waited < timeout ? timeout - waited : 0;
        bool there = connected(uart);
        struct pollfd p = {uart->fd, POLLIN, 0};
        int ready = poll(&p, 1, left > WAIT_SLICE_MS ? WAIT_SLICE_MS : left);
        if (there && ready > 0 && (p.revents & POLLIN)) { return mp_const_true; }
        mp_handle_pending(true);
    } while (waited < timeout);
    return mp_const_false;
}
MP_DEFINE_CONST_FUN_OBJ_2(vboard_uart_wait_obj, uart_wait);

static mp_obj_t uart_readinto(mp_obj_t id, mp_obj_t buf_in) {
    uart_t *uart = uart_get(id);
    mp_buffer_info_t buf;
    mp_get_buffer_raise(buf_in, &buf, MP_BUFFER_WRITE);
    ssize_t n = connected(uart) ? read(uart->fd, buf.buf, buf.len) : 0;
    return mp_obj_new_int(n > 0 ? n : 0);
}
MP_DEFINE_CONST_FUN_OBJ_2(vboard_uart_readinto_obj, uart_readinto);

// A UART without flow control never waits for its listener: what finds no room in time is gone.
static mp_obj_t uart_write(mp_obj_t id, mp_obj_t buf_in) {
    uart_t *uart = uart_get(id);
    mp_buffer_info_t buf;
    mp_get_buffer_raise(buf_in, &buf, MP_BUFFER_READ);
    mp_uint_t start = mp_hal_ticks_ms(), patience_ms = 100 + buf.len * 20000 / (uart->baud ? uart->baud : 9600);
    size_t sent = 0;
    while (sent < buf.len && connected(uart) && mp_hal_ticks_ms() - start < patience_ms) {
        ssize_t n = write(uart->fd, (const char *)buf.buf + sent, buf.len - sent);
        if (n > 0) { sent += n; continue; }
        struct pollfd p = {uart->fd, POLLOUT, 0};
        poll(&p, 1, 10);
        mp_handle_pending(true);
    }
    return mp_obj_new_int(buf.len);
}
MP_DEFINE_CONST_FUN_OBJ_2(vboard_uart_write_obj, uart_write);
