"""Tests of `curate`, through its commands, files, screens and public functions."""
