"""Checks of the environment: what slows training down here, what may break it, what that costs, how to mend it."""
