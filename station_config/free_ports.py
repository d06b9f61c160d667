"""TCP ports on 127.0.0.1 for the programs that a bench or a test starts, and starts again.

To ask the kernel for any port and let go of it is a race: until the program listens, and whenever it has been killed,
any client or server of the machine may be given the same number. So a socket stays bound to it, and never listens: with
SO_REUSEADDR, which servers set, Linux lets a server in beside it, but gives the number to nobody who asks for any.
"""

from __future__ import annotations

import socket


def free_ports(number: int) -> list[int]:
    """Return so many ports that nobody listens on, kept for this process until it ends."""
    holders = [socket.socket() for _ in range(number)]
    for holder in holders:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
    ports = [int(holder.getsockname()[1]) for holder in holders]
    for holder in holders:
        holder.detach()  # the kernel closes it when the process ends
    return ports


def free_port() -> int:
    """Return one such port."""
    return free_ports(1)[0]
