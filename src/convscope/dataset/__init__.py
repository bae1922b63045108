"""What many photographs show: one pass, and what can be read from it afterwards."""
