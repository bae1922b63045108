"""What a network is asked: one number an image, read off named activations."""
