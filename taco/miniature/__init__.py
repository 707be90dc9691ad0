"""The miniature world: a small synthetic data set in the file formats of the real ones, and its models."""
