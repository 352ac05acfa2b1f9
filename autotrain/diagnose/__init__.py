"""What holds the job back, and what a remedy would give."""
