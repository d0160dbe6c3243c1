"""The HTTP door: Bottle routes over the domain's functions."""
