"""What of a plan other training libraries can express: as text for export, and as live arguments; one file each."""
