// Pins the outside world drives: a switch, the contact of a tipping bucket. VB_PINS_FD is the reading end of a FIFO; one
// byte is one level: the pin in the lower six bits, its level in the highest.
//
// As on a microcontroller an edge comes at any moment (here as SIGIO) and only puts its handler into the scheduler's
// queue; MicroPython calls it when it comes round. Handlers that come faster than the queue takes are lost.
#define _GNU_SOURCE  // O_ASYNC
#include "vboard.h"
#include "py/runtime.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PINS 64
#define FALLING 4
#define RISING 8

static int fd = -1;
static uint8_t level_not[PINS];  // 1 where the outside holds the pin low: nobody drives it is as an open contact
static bool is_driven[PINS];
static struct { uint8_t trigger; mp_obj_t handler, pin; } irqs[PINS];  // the objects are kept alive by machine.Pin

static void take(uint8_t event, bool tell) {
    unsigned pin = event & (PINS - 1);
    bool low = !(event & 0x80), was_low = level_not[pin];
    is_driven[pin] = true;
    level_not[pin] = low;
    if (tell && low != was_low && (irqs[pin].trigger & (low ? FALLING : RISING))) {
        mp_sched_schedule(irqs[pin].handler, irqs[pin].pin);
    }
}

static void take_all(bool tell) {
    uint8_t events[32];
    ssize_t n;
    while ((n = read(fd, events, sizeof events)) > 0) {
        for (ssize_t i = 0; i < n; i++) { take(events[i], tell); }
    }
}

static void on_sigio(int sig) {
    (void)sig;
    int kept = errno;
    take_all(true);
    errno = kept;
}

// What changed while the board was not looking, such as during a reset, is its level now and no edge.
void vboard_pins_attach(void) {
    const char *given = getenv("VB_PINS_FD");
    if (given == NULL) { return; }
    fd = atoi(given);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    take_all(false);
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_sigio;
    sa.sa_flags = SA_RESTART;
    sigaction(SIGIO, &sa, NULL);
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
    take_all(false);
}

// Before the reset's execve, in which handlers are lost: an edge must not be deadly then.
void vboard_pins_detach(void) { signal(SIGIO, SIG_IGN); }

// The scheduler's queue is shared with the signal handler.
unsigned vboard_hold_pins(void) {
    sigset_t io, before;
    sigemptyset(&io);
    sigaddset(&io, SIGIO);
    sigprocmask(SIG_BLOCK, &io, &before);
    return sigismember(&before, SIGIO);
}

void vboard_let_pins(unsigned were_held) {
    if (were_held) { return; }
    sigset_t io;
    sigemptyset(&io);
    sigaddset(&io, SIGIO);
    sigprocmask(SIG_UNBLOCK, &io, NULL);
}

static unsigned pin_number(mp_obj_t pin_in) {
    mp_int_t pin = mp_obj_get_int(pin_in);
    if (pin < 0 || pin >= PINS) { mp_raise_ValueError(MP_ERROR_TEXT("invalid pin")); }
    return pin;
}

// pin_level(number): what the outside makes of it, or None.
static mp_obj_t pin_level(mp_obj_t pin_in) {
    unsigned pin = pin_number(pin_in);
    return is_driven[pin] ? MP_OBJ_NEW_SMALL_INT(!level_not[pin]) : mp_const_none;
}
MP_DEFINE_CONST_FUN_OBJ_1(vboard_pin_level_obj, pin_level);

// pin_irq(number, trigger, handler, pin): trigger 0 for none
static mp_obj_t pin_irq(size_t n_args, const mp_obj_t *args) {
    (void)n_args;
    unsigned pin = pin_number(args[0]), held = vboard_hold_pins();
    irqs[pin].trigger = mp_obj_get_int(args[1]);
    irqs[pin].handler = args[2];
    irqs[pin].pin = args[3];
    vboard_let_pins(held);
    return mp_const_none;
}
MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(vboard_pin_irq_obj, 4, 4, pin_irq);
