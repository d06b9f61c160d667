FROZEN_MANIFEST ?= $(VARIANT_DIR)/manifest.py
# 32 bit like the boards; the build says MICROPY_FORCE_32BIT=0 where the compiler cannot.
MICROPY_FORCE_32BIT = 1
# What a station board does not have must not be found by firmware either.
MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_PY_SOCKET = 0
MICROPY_PY_SSL = 0
MICROPY_PY_TERMIOS = 0
MICROPY_PY_THREAD = 0
MICROPY_SSL_MBEDTLS = 0
