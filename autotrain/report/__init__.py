"""What people read: functions of sessions and plans."""

import random

# When it is imported, rich draws a number; a program that calls autotrain gets its own random state back.
_before = random.getstate()
import rich.style  # noqa: E402, F401

random.setstate(_before)
del _before
