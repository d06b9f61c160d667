# The flash chip as a block device for littlefs: 4 KiB sectors, erase before program (_vboard keeps the bits honest).
import _vboard
from micropython import const

SECTOR = const(4096)
_EIO = const(5)


class Flash:
    def __init__(self):
        self.sectors = _vboard.flash_size() // SECTOR

    def readblocks(self, n, buf, off=0):
        if not _vboard.flash_read(n * SECTOR + off, buf):
            raise OSError(_EIO)

    def writeblocks(self, n, buf, off=None):
        if off is None:
            for sector in range(n, n + (len(buf) + SECTOR - 1) // SECTOR):
                self.ioctl(6, sector)
            off = 0
        if not _vboard.flash_program(n * SECTOR + off, buf):
            print("vboard: flash fault: sector %d was programmed without being erased" % n)
            raise OSError(_EIO)

    def ioctl(self, op, arg):
        if op == 4:
            return self.sectors
        if op == 5:
            return SECTOR
        if op == 6 and not _vboard.flash_erase(arg * SECTOR, SECTOR):
            raise OSError(_EIO)
        return 0

    def is_blank(self):
        buf = bytearray(SECTOR)
        for sector in range(2):  # littlefs keeps its superblock in the first two
            self.readblocks(sector, buf)
            if any(b != 0xFF for b in buf):
                return False
        return True
