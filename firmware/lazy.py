# Modules that are needed seldom do not stay in memory: whoever borrows one holds it, and it goes when he lets go.
import sys

import firmware


def borrow(name):
    module = __import__("firmware." + name, None, None, (name,))
    sys.modules.pop("firmware." + name, None)
    if hasattr(firmware, name):
        delattr(firmware, name)
    return module
