"""What is studied. Takes a dataset's folder in its published layout; gives a manifest, the truth, and images and
sounds as arrays, read ahead. Problems are collected, so that one error lists all of them.
"""
