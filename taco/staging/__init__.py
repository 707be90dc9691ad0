"""Data and weights, brought or asked for. Takes the catalogue of sources and a configuration; gives files at their
places with a receipt, or says what is missing and what to do. No torch.
"""
