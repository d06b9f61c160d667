#ifndef TRAM_VBOARD_H
#define TRAM_VBOARD_H
#include "py/obj.h"
#include <stdint.h>

int64_t vboard_monotonic_ns(void);
void vboard_pins_attach(void);
void vboard_pins_detach(void);

MP_DECLARE_CONST_FUN_OBJ_VAR_BETWEEN(vboard_uart_open_obj);
MP_DECLARE_CONST_FUN_OBJ_1(vboard_uart_close_obj);
MP_DECLARE_CONST_FUN_OBJ_1(vboard_uart_fileno_obj);
MP_DECLARE_CONST_FUN_OBJ_1(vboard_uart_any_obj);
MP_DECLARE_CONST_FUN_OBJ_2(vboard_uart_wait_obj);
MP_DECLARE_CONST_FUN_OBJ_2(vboard_uart_readinto_obj);
MP_DECLARE_CONST_FUN_OBJ_2(vboard_uart_write_obj);
MP_DECLARE_CONST_FUN_OBJ_1(vboard_pin_level_obj);
MP_DECLARE_CONST_FUN_OBJ_VAR_BETWEEN(vboard_pin_irq_obj);
#endif
