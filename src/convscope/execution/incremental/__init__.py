"""A network's scores for a photograph under each of many windows, computed only where they change.

After Nakandala, Kumar & Papakonstantinou, SIGMOD 2019, doi:10.1145/3299869.3319874; here exact.
Read from the bottom: `boxes` (part of a map that can change), `sliding` and `rules` (how each layer
propagates it), `steps` (a network as a list of these), `windows` (the photographs), `recompute`
(the incremental pass), `choose_algorithm` (this pass or plain batches, whichever is cheaper).
"""
