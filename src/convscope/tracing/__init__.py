"""What runs in a network: captured values, the table of layers, receptive fields."""
