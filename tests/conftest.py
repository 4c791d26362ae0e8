"""Shared by all tests: property tests without a clock, so that a busy machine does not fail them."""

from hypothesis import settings

settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
