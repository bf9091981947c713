"""What everything stands on: records, findings and errors, and the only writers to the terminal and to the disk."""
