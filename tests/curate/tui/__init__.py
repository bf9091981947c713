"""Tests of the terminal UI, through its keys and what is seen on the screen."""
