"""What runs in a network: hooks, the table of layers, receptive fields."""
