# The power-on sequence of the virtual board: flash, boot.py, main.py, REPL, and again.
import gc, sys, vfs, _vboard
from _vbflash import Flash
from micropython import const

_FORCED_EXIT = const(0x100)


def _mount():
    flash = Flash()
    geometry = {"progsize": 256, "readsize": 32, "lookahead": 32}
    try:
        vfs.mount(vfs.VfsLfs2(flash, **geometry), "/")
        return
    except OSError:
        print("vboard: formatting new flash" if flash.is_blank() else "vboard: flash fault: no file system, formatting")
    vfs.VfsLfs2.mkfs(flash, **geometry)
    vfs.mount(vfs.VfsLfs2(flash, **geometry), "/")


def run():
    # Code of the flash runs with __main__'s globals, and this frame with it: only locals after the first _vboard.run.
    board, system = _vboard, sys
    board.attach()
    vfs.umount("/")  # the host's files
    _mount()
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    gc.collect()
    raw = board.env("VB_RAW", "0") == "1"
    result = board.run("boot.py")
    if not result & _FORCED_EXIT and not raw:
        result = board.run("main.py")
    if not result & _FORCED_EXIT:
        board.repl()
    system.stdout.write("MPY: soft reboot\r\n")
    board.reset("soft")
