// What a board has and a unix process has not: a console with Ctrl-C, reset, a watchdog, a real-time clock, NOR flash.
// Everything with a choice in it is frozen Python (../../frozen); here is only what Python cannot do.
//
// The supervisor (simulators/board.py) hands the board over in the environment:
//   VB_FLASH_FD  descriptor of the flash's file        VB_UART<n>  terminal of UART n (VB_UART<n>_TX<pin>: on that pin)
//   VB_PINS_FD   descriptor of a FIFO that drives pins
//   VB_CUT       die at the n-th flash operation       VB_UID      unique id, hex
//   VB_TEAR      percent of that operation that is done
//   VB_EPOCH     1970 or 2000                          VB_RATE     how fast the clock runs
//   VB_SUPERVISOR  its process id: the board dies with it
//   VB_RTC_FD    descriptor of the file that is a clock chip with a battery: what VB_RTC says, kept when the power goes
// A reset is an execve of ourselves, which adds
//   VB_CAUSE     soft, hard or wdt                     VB_RAW      1: back into the raw REPL, main.py not run
//   VB_RTC       the clock: ns shown, at which monotonic ns
#define _GNU_SOURCE  // ppoll
#include "vboard.h"
#include "py/gc.h"
#include "py/runtime.h"
#include "py/mphal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "shared/runtime/pyexec.h"
#include "shared/runtime/pyexec.c"

extern char **environ;

static void power_off(void) { _exit(137); }

static const char *env_or(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static mp_obj_t vb_env(mp_obj_t name, mp_obj_t otherwise) {
    const char *value = env_or(mp_obj_str_get_str(name), NULL);
    return value ? mp_obj_new_str(value, strlen(value)) : otherwise;
}
static MP_DEFINE_CONST_FUN_OBJ_2(vb_env_obj, vb_env);

// Append text, or a number in decimal: the build's own snprintf knows no 64 bits, and neither is for signal handlers.
static char *put(char *to, const char *text) {
    while (*text) { *to++ = *text++; }
    *to = 0;
    return to;
}

static char *put_number(char *to, int64_t number) {
    char digits[24], *p = digits + sizeof digits;
    uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;
    *--p = 0;
    do { *--p = '0' + left % 10; left /= 10; } while (left);
    return put(number < 0 ? put(to, "-") : to, p);
}

// ---- Ctrl-C: the kernel's terminal turns 0x03 into SIGINT, but only while code of the flash or the REPL is running.
// What was typed while the board booted is kept, and a Ctrl-C in it stops boot.py and main.py: a technician may connect
// at any moment.
static bool running_boot_file;
static bool booted;
static uint8_t typed[256];
static size_t typed_n, typed_at;

static void on_sigint(int sig) { (void)sig; mp_sched_keyboard_interrupt(); }

static void keep_what_was_typed(void) {
    struct pollfd p = {0, POLLIN, 0};
    while (typed_n < sizeof typed && poll(&p, 1, 0) > 0 && (p.revents & POLLIN)) {
        ssize_t n = read(0, typed + typed_n, sizeof typed - typed_n);
        if (n <= 0) { break; }
        typed_n += n;
    }
    for (size_t i = typed_n; i > typed_at; i--) {
        if (typed[i - 1] == 3) {
            typed_at = i;
            mp_sched_keyboard_interrupt();
            return;
        }
    }
}

int __real_mp_hal_stdin_rx_chr(void);
int __wrap_mp_hal_stdin_rx_chr(void) { return typed_at < typed_n ? typed[typed_at++] : __real_mp_hal_stdin_rx_chr(); }

void __wrap_mp_hal_set_interrupt_char(int c) {
    bool runs = c == 3, interruptible = runs && booted;
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = booted ? on_sigint : SIG_IGN;
    sigaction(SIGINT, &sa, NULL);
    struct termios t;
    if (tcgetattr(0, &t) != 0) { return; }
    t.c_iflag &= ~(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON);
    if (runs) { t.c_oflag |= OPOST | ONLCR; } else { t.c_oflag &= ~OPOST; }
    t.c_cflag = (t.c_cflag & ~(CSIZE | PARENB)) | CS8;
    t.c_lflag = interruptible ? (ISIG | NOFLSH) : NOFLSH;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    t.c_cc[VINTR] = 3;
    t.c_cc[VQUIT] = _POSIX_VDISABLE;
    t.c_cc[VSUSP] = _POSIX_VDISABLE;
    tcsetattr(0, TCSANOW, &t);
    if (interruptible && running_boot_file) { keep_what_was_typed(); }
}

// ---- the real-time clock: starts at 0 with power, or goes on where its battery kept it; runs at VB_RATE, through resets
static int64_t rtc_shown_ns, rtc_at_ns;
static double rtc_rate;

int64_t vboard_monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t rtc_ns(void) {
    if (rtc_rate == 0) {
        rtc_rate = atof(env_or("VB_RATE", "1"));
        char *comma = NULL;
        rtc_shown_ns = strtoll(env_or("VB_RTC", "0"), &comma, 10);
        rtc_at_ns = *comma == ',' ? strtoll(comma + 1, NULL, 10) : vboard_monotonic_ns();
    }
    return rtc_shown_ns + (int64_t)((long double)(vboard_monotonic_ns() - rtc_at_ns) * rtc_rate);
}

static mp_obj_t vb_rtc_s(void) { return mp_obj_new_int_from_ll(rtc_ns() / 1000000000LL); }
static MP_DEFINE_CONST_FUN_OBJ_0(vb_rtc_s_obj, vb_rtc_s);
static mp_obj_t vb_rtc_ns(void) { return mp_obj_new_int_from_ll(rtc_ns()); }
static MP_DEFINE_CONST_FUN_OBJ_0(vb_rtc_ns_obj, vb_rtc_ns);

// rtc_set(seconds since the port's epoch, microseconds)
static mp_obj_t vb_rtc_set(mp_obj_t seconds, mp_obj_t microseconds) {
    rtc_ns();
    long long s = mp_obj_get_int_truncated(mp_binary_op(MP_BINARY_OP_RSHIFT, seconds, MP_OBJ_NEW_SMALL_INT(16)));
    s = s * 65536 + mp_obj_get_int_truncated(mp_binary_op(MP_BINARY_OP_AND, seconds, MP_OBJ_NEW_SMALL_INT(0xffff)));
    rtc_shown_ns = s * 1000000000LL + mp_obj_get_int(microseconds) * 1000LL;
    rtc_at_ns = vboard_monotonic_ns();
    const char *battery = getenv("VB_RTC_FD");
    if (battery) {
        char text[64];
        memset(text, ' ', sizeof text);  // one write of one length: whenever the power goes, the file is whole
        char *end = put_number(put(put_number(text, rtc_shown_ns), ","), rtc_at_ns);
        *end = ' ';
        text[sizeof text - 1] = '\n';
        if (pwrite(atoi(battery), text, sizeof text, 0) != sizeof text) { mp_raise_OSError(errno); }
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(vb_rtc_set_obj, vb_rtc_set);

// littlefs asks this for the times of files: nanoseconds since 1970 whatever the port's epoch
uint64_t __wrap_mp_hal_time_ns(void) {
    uint64_t epoch_s = atoi(env_or("VB_EPOCH", "1970")) == 2000 ? 946684800ULL : 0;
    return rtc_ns() + epoch_s * 1000000000ULL;
}

// ---- power-on
// The console becomes the controlling terminal (Ctrl-C), and the supervisor's end is the end of the board's power.
static mp_obj_t vb_attach(void) {
    rtc_ns();  // the clock starts with the power, not with the first question
    ioctl(0, TIOCSCTTY, 0);
    const char *supervisor = getenv("VB_SUPERVISOR");
    if (supervisor) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != atoi(supervisor)) { power_off(); }  // it died before we could ask
    }
    vboard_pins_attach();
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(vb_attach_obj, vb_attach);

// ---- NOR flash on a file: erasing sets all bits, programming can only clear them
static int flash_countdown = -1;  // operations until the power goes; 0: never; -1: not read yet

// What has been done to the chip since the board started: reading time and wear are judged by it.
#define COUNTED_SECTORS 4096
static struct { uint32_t reads, bytes_read, programs, bytes_programmed, erases; } flash_done;
static uint16_t sector_erases[COUNTED_SECTORS];

// (reads, bytes read, programs, bytes programmed, erases)
static mp_obj_t vb_flash_counts(void) {
    mp_obj_t counts[] = {
        mp_obj_new_int_from_uint(flash_done.reads), mp_obj_new_int_from_uint(flash_done.bytes_read),
        mp_obj_new_int_from_uint(flash_done.programs), mp_obj_new_int_from_uint(flash_done.bytes_programmed),
        mp_obj_new_int_from_uint(flash_done.erases),
    };
    return mp_obj_new_tuple(5, counts);
}
static MP_DEFINE_CONST_FUN_OBJ_0(vb_flash_counts_obj, vb_flash_counts);

// How often one sector of 4 KiB was erased.
static mp_obj_t vb_sector_erases(mp_obj_t sector_in) {
    mp_int_t sector = mp_obj_get_int(sector_in);
    if (sector < 0 || sector >= COUNTED_SECTORS) { mp_raise_ValueError(NULL); }
    return MP_OBJ_NEW_SMALL_INT(sector_erases[sector]);
}
static MP_DEFINE_CONST_FUN_OBJ_1(vb_sector_erases_obj, vb_sector_erases);

// A heap is fullest when it is collected: noting its use there, and when asked, misses no peak.
static size_t heap_peak;

static void note_heap(void) {
    gc_info_t info;
    gc_info(&info);
    if (info.used > heap_peak) { heap_peak = info.used; }
}

void __real_gc_collect(void);
void __wrap_gc_collect(void) {
    note_heap();
    __real_gc_collect();
}

// The most bytes of the heap that were in use since this was last asked, garbage and all.
static mp_obj_t vb_heap_peak(void) {
    note_heap();
    mp_obj_t peak = mp_obj_new_int_from_uint(heap_peak);
    heap_peak = 0;
    return peak;
}
static MP_DEFINE_CONST_FUN_OBJ_0(vb_heap_peak_obj, vb_heap_peak);

static int flash_fd(void) { return atoi(env_or("VB_FLASH_FD", "-1")); }

static bool power_goes_now(void) {
    if (flash_countdown < 0) { flash_countdown = atoi(env_or("VB_CUT", "0")); }
    return flash_countdown > 0 && --flash_countdown == 0;
}

static size_t torn(size_t size) { return size * atoi(env_or("VB_TEAR", "50")) / 100; }

static mp_obj_t vb_flash_size(void) {
    struct stat s;
    if (fstat(flash_fd(), &s) != 0) { mp_raise_OSError(errno); }
    return mp_obj_new_int(s.st_size);
}
static MP_DEFINE_CONST_FUN_OBJ_0(vb_flash_size_obj, vb_flash_size);

static mp_obj_t vb_flash_read(mp_obj_t offset, mp_obj_t buf_in) {
    mp_buffer_info_t buf;
    mp_get_buffer_raise(buf_in, &buf, MP_BUFFER_WRITE);
    flash_done.reads++;
    flash_done.bytes_read += buf.len;
    return mp_obj_new_bool(pread(flash_fd(), buf.buf, buf.len, mp_obj_get_int(offset)) == (ssize_t)buf.len);
}
static MP_DEFINE_CONST_FUN_OBJ_2(vb_flash_read_obj, vb_flash_read);

// True when the flash now holds what was asked for. As on a chip, a bit that is 0 stays 0 until it is erased.
static mp_obj_t vb_flash_program(mp_obj_t offset_in, mp_obj_t buf_in) {
    mp_buffer_info_t buf;
    mp_get_buffer_raise(buf_in, &buf, MP_BUFFER_READ);
    bool cut = power_goes_now(), faithful = true;
    flash_done.programs++;
    flash_done.bytes_programmed += buf.len;
    size_t todo = cut ? torn(buf.len) : buf.len;
    off_t offset = mp_obj_get_int(offset_in);
    const uint8_t *wanted = buf.buf;
    uint8_t cell[256];
    for (size_t done = 0; done < todo;) {
        size_t n = todo - done < sizeof cell ? todo - done : sizeof cell;
        if (pread(flash_fd(), cell, n, offset + done) != (ssize_t)n) { return mp_const_false; }
        for (size_t i = 0; i < n; i++) {
            cell[i] &= wanted[done + i];
            faithful = faithful && cell[i] == wanted[done + i];
        }
        if (pwrite(flash_fd(), cell, n, offset + done) != (ssize_t)n) { return mp_const_false; }
        done += n;
    }
    if (cut) { power_off(); }
    return mp_obj_new_bool(faithful);
}
static MP_DEFINE_CONST_FUN_OBJ_2(vb_flash_program_obj, vb_flash_program);

static mp_obj_t vb_flash_erase(mp_obj_t offset, mp_obj_t size) {
    static uint8_t erased[256];
    memset(erased, 0xff, sizeof erased);
    bool cut = power_goes_now();
    flash_done.erases++;
    if (mp_obj_get_int(offset) / 4096 < COUNTED_SECTORS) { sector_erases[mp_obj_get_int(offset) / 4096]++; }
    off_t from = mp_obj_get_int(offset), to = from + (cut ? torn(mp_obj_get_int(size)) : (size_t)mp_obj_get_int(size));
    while (from < to) {
        size_t n = to - from < (off_t)sizeof erased ? (size_t)(to - from) : sizeof erased;
        if (pwrite(flash_fd(), erased, n, from) != (ssize_t)n) { return mp_const_false; }
        from += n;
    }
    if (cut) { power_off(); }
    return mp_const_true;
}
static MP_DEFINE_CONST_FUN_OBJ_2(vb_flash_erase_obj, vb_flash_erase);

// ---- reset = execve of ourselves: same process, same console and flash, fresh heap. Called from a signal handler too.
static void reset(const char *cause, bool raw) {
    vboard_pins_detach();
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    booted = false;
    __wrap_mp_hal_set_interrupt_char(3);  // a Ctrl-C that comes before the new image listens must not be deadly
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    rtc_ns();
    static char cmdline[4096], *argv[64], *envp[256], of_cause[24], of_raw[12], of_rtc[64], of_cut[24];
    int fd = open("/proc/self/cmdline", O_RDONLY), n = 0, k = 0;
    int len = read(fd, cmdline, sizeof cmdline - 1);
    close(fd);
    for (char *p = cmdline; p < cmdline + len && n < 63; p += strlen(p) + 1) { argv[n++] = p; }
    for (char **e = environ; *e && k < 250; e++) {
        bool ours = !strncmp(*e, "VB_CAUSE=", 9) || !strncmp(*e, "VB_RAW=", 7) || !strncmp(*e, "VB_RTC=", 7)
            || (flash_countdown >= 0 && !strncmp(*e, "VB_CUT=", 7));
        if (!ours) { envp[k++] = *e; }
    }
    put(put(of_cause, "VB_CAUSE="), cause);
    put(of_raw, raw ? "VB_RAW=1" : "VB_RAW=0");
    put_number(put(put_number(put(of_rtc, "VB_RTC="), rtc_shown_ns), ","), rtc_at_ns);
    envp[k++] = of_cause;
    envp[k++] = of_raw;
    envp[k++] = of_rtc;
    if (flash_countdown >= 0) {
        put_number(put(of_cut, "VB_CUT="), flash_countdown);
        envp[k++] = of_cut;
    }
    execve("/proc/self/exe", argv, envp);
    _exit(99);
}

static mp_obj_t vb_reset(mp_obj_t cause_in) {
    const char *cause = mp_obj_str_get_str(cause_in);
    reset(cause, pyexec_mode_kind == PYEXEC_MODE_RAW_REPL && !strcmp(cause, "soft"));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(vb_reset_obj, vb_reset);

// ---- watchdog: a timer of the kernel, so that it bites in a tight loop too
static void on_sigalrm(int sig) { (void)sig; reset("wdt", false); }

static mp_obj_t vb_watchdog(mp_obj_t ms_in) {
    int ms = mp_obj_get_int(ms_in);
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_sigalrm;
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval once = {{0, 0}, {ms / 1000, (ms % 1000) * 1000}};
    setitimer(ITIMER_REAL, &once, NULL);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(vb_watchdog_obj, vb_watchdog);

// ---- running code as the microcontroller ports do: in __main__, not in the frozen boot module
static void in_main(void) { mp_locals_set(&MP_STATE_VM(dict_main)); mp_globals_set(&MP_STATE_VM(dict_main)); }

static mp_obj_t vb_repl(void) {
    in_main();
    booted = true;
    if (!strcmp(env_or("VB_RAW", "0"), "1")) { pyexec_mode_kind = PYEXEC_MODE_RAW_REPL; }
    __wrap_mp_hal_set_interrupt_char(-1);
    for (;;) {
        int result = pyexec_mode_kind == PYEXEC_MODE_RAW_REPL ? pyexec_raw_repl() : pyexec_friendly_repl();
        if (result != 0) { return mp_obj_new_int(result); }
    }
}
static MP_DEFINE_CONST_FUN_OBJ_0(vb_repl_obj, vb_repl);

static mp_obj_t vb_run(mp_obj_t file) {
    in_main();
    booted = running_boot_file = true;
    int result = pyexec_file_if_exists(mp_obj_str_get_str(file));
    running_boot_file = false;
    return mp_obj_new_int(result);
}
static MP_DEFINE_CONST_FUN_OBJ_1(vb_run_obj, vb_run);

// sleep_ms without the unix port's 1 ms polling: an idle board costs next to nothing
void __wrap_mp_hal_delay_ms(mp_uint_t ms) {
    int64_t end_ns = vboard_monotonic_ns() + ms * 1000000LL, left_ns;
    mp_handle_pending(true);
    while ((left_ns = end_ns - vboard_monotonic_ns()) > 0) {
        struct timespec slice = {0, left_ns < 50000000 ? left_ns : 50000000};
        ppoll(NULL, 0, &slice, NULL);
        mp_handle_pending(true);
    }
}

static const mp_rom_map_elem_t vb_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__vboard) },
    { MP_ROM_QSTR(MP_QSTR_env), MP_ROM_PTR(&vb_env_obj) },
    { MP_ROM_QSTR(MP_QSTR_attach), MP_ROM_PTR(&vb_attach_obj) },
    { MP_ROM_QSTR(MP_QSTR_rtc_s), MP_ROM_PTR(&vb_rtc_s_obj) },
    { MP_ROM_QSTR(MP_QSTR_rtc_ns), MP_ROM_PTR(&vb_rtc_ns_obj) },
    { MP_ROM_QSTR(MP_QSTR_rtc_set), MP_ROM_PTR(&vb_rtc_set_obj) },
    { MP_ROM_QSTR(MP_QSTR_flash_size), MP_ROM_PTR(&vb_flash_size_obj) },
    { MP_ROM_QSTR(MP_QSTR_flash_read), MP_ROM_PTR(&vb_flash_read_obj) },
    { MP_ROM_QSTR(MP_QSTR_flash_program), MP_ROM_PTR(&vb_flash_program_obj) },
    { MP_ROM_QSTR(MP_QSTR_flash_erase), MP_ROM_PTR(&vb_flash_erase_obj) },
    { MP_ROM_QSTR(MP_QSTR_flash_counts), MP_ROM_PTR(&vb_flash_counts_obj) },
    { MP_ROM_QSTR(MP_QSTR_sector_erases), MP_ROM_PTR(&vb_sector_erases_obj) },
    { MP_ROM_QSTR(MP_QSTR_heap_peak), MP_ROM_PTR(&vb_heap_peak_obj) },
    { MP_ROM_QSTR(MP_QSTR_reset), MP_ROM_PTR(&vb_reset_obj) },
    { MP_ROM_QSTR(MP_QSTR_watchdog), MP_ROM_PTR(&vb_watchdog_obj) },
    { MP_ROM_QSTR(MP_QSTR_repl), MP_ROM_PTR(&vb_repl_obj) },
    { MP_ROM_QSTR(MP_QSTR_run), MP_ROM_PTR(&vb_run_obj) },
    { MP_ROM_QSTR(MP_QSTR_uart_open), MP_ROM_PTR(&vboard_uart_open_obj) },
    { MP_ROM_QSTR(MP_QSTR_uart_close), MP_ROM_PTR(&vboard_uart_close_obj) },
    { MP_ROM_QSTR(MP_QSTR_uart_fileno), MP_ROM_PTR(&vboard_uart_fileno_obj) },
    { MP_ROM_QSTR(MP_QSTR_uart_any), MP_ROM_PTR(&vboard_uart_any_obj) },
    { MP_ROM_QSTR(MP_QSTR_uart_wait), MP_ROM_PTR(&vboard_uart_wait_obj) },
    { MP_ROM_QSTR(MP_QSTR_uart_readinto), MP_ROM_PTR(&vboard_uart_readinto_obj) },
    { MP_ROM_QSTR(MP_QSTR_uart_write), MP_ROM_PTR(&vboard_uart_write_obj) },
    { MP_ROM_QSTR(MP_QSTR_pin_level), MP_ROM_PTR(&vboard_pin_level_obj) },
    { MP_ROM_QSTR(MP_QSTR_pin_irq), MP_ROM_PTR(&vboard_pin_irq_obj) },
};
static MP_DEFINE_CONST_DICT(vb_globals, vb_globals_table);
const mp_obj_module_t vb_module = { .base = { &mp_type_module }, .globals = (mp_obj_dict_t *)&vb_globals };
MP_REGISTER_MODULE(MP_QSTR__vboard, vb_module);
