# const(n): the board's compiler puts the number where the name stands. A name with an underscore then takes no memory.
try:
    from micropython import const as const
except ImportError:

    def const(value: int) -> int:  # type: ignore[misc, unused-ignore]
        return value
