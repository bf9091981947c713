"""What README.md and SECURITY.md promise, one file for each promise, seen from outside.

Commands, files and the public Python API alone: whatever is rebuilt inside, these tests stay as they are. All of them
together take less than three minutes on two cores.
"""
