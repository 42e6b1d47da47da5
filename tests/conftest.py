"""For all tests: what is drawn is drawn the same each time, so that a change is judged by what it changed. HYPOTHESIS_PROFILE=random draws anew."""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.register_profile("random")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
