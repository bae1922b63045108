"""Objectives: one number per image, read off named activations."""
