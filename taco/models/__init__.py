"""Frozen models. Takes weight files and arrays of pixels and samples; gives CLIP's and CLAP's tokens and embeddings,
and FC-CLIP's mask proposals and their decoding by prompts. Knows neither datasets nor co-NMF.
"""
