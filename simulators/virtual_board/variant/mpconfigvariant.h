// The virtual station board: MicroPython's unix port, configured like a microcontroller port.
#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)
#define MICROPY_FLOAT_IMPL       (MICROPY_FLOAT_IMPL_FLOAT)  // single precision, as ESP32 and RP2040
#define MICROPY_PY_SYS_PLATFORM  "vboard"
#define MICROPY_HW_BOARD_NAME    "Virtual station board"
#ifdef __LP64__
#define MICROPY_HW_MCU_NAME      "linux-64bit"
#else
#define MICROPY_HW_MCU_NAME      "linux-32bit"
#endif
#define MICROPY_BANNER_MACHINE   MICROPY_HW_BOARD_NAME " with " MICROPY_HW_MCU_NAME
#define MICROPY_ENABLE_SCHEDULER (1)
#define MICROPY_SCHEDULER_DEPTH  (8)
// The scheduler's queue is shared with the signal that edges on pins are (usermod/vboard/pins.c).
unsigned vboard_hold_pins(void);
void vboard_let_pins(unsigned were_held);
#define MICROPY_BEGIN_ATOMIC_SECTION() vboard_hold_pins()
#define MICROPY_END_ATOMIC_SECTION(were_held) vboard_let_pins(were_held)
#define MICROPY_REPL_EVENT_DRIVEN (0)
#define MICROPY_HELPER_REPL      (1)
#define MICROPY_PY_SYS_PS1_PS2   (1)
#define MICROPY_PY_BUILTINS_HELP (1)
#define MICROPY_PY_BUILTINS_HELP_MODULES (1)
#define MICROPY_KBD_EXCEPTION    (1)
#include "variants/mpconfigvariant_common.h"

// Ctrl-C is scheduled into the VM as on a microcontroller, not thrown out of a system call.
#undef MICROPY_ASYNC_KBD_INTR
#define MICROPY_ASYNC_KBD_INTR   (0)

// No board has these: firmware that uses them must fail here as it would there.
#undef MICROPY_PY_OS_GETENV_PUTENV_UNSETENV
#define MICROPY_PY_OS_GETENV_PUTENV_UNSETENV (0)
#undef MICROPY_PY_OS_SYSTEM
#define MICROPY_PY_OS_SYSTEM     (0)
#undef MICROPY_PY_OS_ERRNO
#define MICROPY_PY_OS_ERRNO      (0)
#undef MICROPY_PY_SYS_EXC_INFO
#define MICROPY_PY_SYS_EXC_INFO  (0)
#undef MICROPY_PY_SYS_ATEXIT
#define MICROPY_PY_SYS_ATEXIT    (0)
