"""Stations without a board: the gateway asks their instruments itself, with the board's own modules."""
