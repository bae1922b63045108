"""What lies open: predictions, filters and activations, as they are."""
