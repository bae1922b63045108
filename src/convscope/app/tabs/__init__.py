"""The tabs, one file each: what a page asks, answered by a few library calls."""
