"""What people look at. Takes examples, score rows and tables; gives the paper's figures, charts and the gallery.

The only wing that draws.
"""
