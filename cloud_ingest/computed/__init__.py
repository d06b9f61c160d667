"""Quantities computed when they are asked for, from sums over local time: ET0, rain intensity, water quality index."""
