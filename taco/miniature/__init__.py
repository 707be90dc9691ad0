"""The miniature world. Takes a seed and counts of clips; gives small datasets in the published layouts of the real ones,
a general word bank, and trains the small models that are shipped.
"""
