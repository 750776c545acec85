"""One hypothesis profile for the whole suite, and C++ modules built by the tests themselves."""

import os

from hypothesis import settings

# torch's first call is slower than any deadline; CI must not fail by chance.
settings.register_profile("fastrl", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("fastrl")
