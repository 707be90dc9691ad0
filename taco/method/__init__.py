"""TACO on a sample. Takes manifest rows and frozen models; gives cached features, factors by co-NMF, maps of every
method and control, and one score row for each.
"""
