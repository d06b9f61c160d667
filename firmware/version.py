# The firmware's version: read by the start line, the register map and the device identification.
VERSION = (0, 1, 0)
TEXT = "%d.%d.%d" % VERSION
