"""What makes a task live: rig, step, loop, evaluation, restoring."""
