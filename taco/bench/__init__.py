"""``taco bench``: speed of the heavy parts, against a baseline of the same run. A module for each part."""
