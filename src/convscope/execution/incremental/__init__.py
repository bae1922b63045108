"""What a network says of a photograph under each of many windows, computed only where it changes.

After Nakandala, Kumar & Papakonstantinou, SIGMOD 2019, doi:10.1145/3299869.3319874; here exact.
Read from the bottom: `boxes` (part of a map that can change), `sliding` and `rules` (how each layer
moves it), `steps` (a network as a list of these), `windows` (the photographs), `recompute` (the
engine), `under_windows` (the engine or plain batches, whichever is cheaper).
"""
