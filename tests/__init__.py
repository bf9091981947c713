"""Tests by package; helpers that tests share are imported by their full name, such as `tests.train.tiny`."""
