"""Files between stages. Takes arrays by name and sample, and what made them; gives them back checked, from HDF5.

Never a file that is damaged, half written, or made by other settings.
"""
