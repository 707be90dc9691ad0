"""One's own images, sounds and videos. Takes files or arrays and frozen models; gives masks, maps, words and explanations.

The pipeline's own stages (features, co-NMF, decoding) for one pair at a time, without caches between them.
"""
