# const(n): the board's compiler puts the number where the name stands. A name with an underscore then takes no memory.
def const(value: int) -> int:
    return value


try:
    from micropython import const as const  # type: ignore[assignment, misc, no-redef, unused-ignore]
except ImportError:
    pass
