"""Backward passes to write by hand, each proved when it is done: `scratchgen exercise`."""
