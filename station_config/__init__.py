"""What the network knows: parameters, instruments, stations, and how one quantity follows from others."""
