"""Stores that are asked the same questions about the same observations."""
