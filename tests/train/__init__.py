"""Tests of `train`, through its commands, files and public functions."""
