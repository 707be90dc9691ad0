"""From score rows to numbers. Takes rows and pools of any tasks and shards; gives one value for each seed, tables
in percent, comparisons, costs, and the pages on which they are printed. No torch, no pictures.
"""
