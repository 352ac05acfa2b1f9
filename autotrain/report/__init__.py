"""What people read: functions of sessions and plans."""
