"""Which tests of model families can run in this Python: `tests/zoo.py` runs the others."""

import os

from umlip_latents.models.environments import CURRENT, environment_names

# what follows a hyphen in the name of an environment is not in that of its tests
here = os.getenv(CURRENT, "").partition("-")[0]
families = {name.partition("-")[0] for name in environment_names()}
collect_ignore = [f"test_{family}.py" for family in families - {here}]
