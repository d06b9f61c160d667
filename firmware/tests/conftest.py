"""One machine runs many things at once: a slow example is no fault."""

from hypothesis import settings

settings.register_profile("firmware", deadline=None)
settings.load_profile("firmware")
