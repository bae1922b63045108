"""Photographs in: files, arrays and tensors become pixels."""
