"""A station board without hardware: real MicroPython with flash, UARTs, a console, a watchdog and a clock."""
