"""What everything stands on: errors, the only writers to terminal and disk, the guard of files, the worker process."""
