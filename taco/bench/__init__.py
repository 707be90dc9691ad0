"""``taco bench``: speed of the heavy parts. Takes a device and sizes; gives times, and ratios to a baseline of the same run.

A module for each part.
"""
