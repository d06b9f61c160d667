VBOARD_DIR := $(USERMOD_DIR)
SRC_USERMOD_C += $(VBOARD_DIR)/vboard.c $(VBOARD_DIR)/uart.c $(VBOARD_DIR)/pins.c
CFLAGS_USERMOD += -I$(VBOARD_DIR)
# In place of the unix port's own: Ctrl-C and console input (the console is a terminal of ours), delays (without its
# 1 ms polling), the time of day. Around garbage collection: how full the heap was.
LDFLAGS += -Wl,--wrap=mp_hal_set_interrupt_char -Wl,--wrap=mp_hal_stdin_rx_chr -Wl,--wrap=mp_hal_delay_ms -Wl,--wrap=mp_hal_time_ns -Wl,--wrap=gc_collect
