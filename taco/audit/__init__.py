"""Results held against what they were made from. Takes a suite's configuration and its results folder; gives what a number
of a table is made of (`numbers`), and what no longer matches its inputs (`matching`).
"""
