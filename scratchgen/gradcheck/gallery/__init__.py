"""Bugs that published code has had: the mathematics, the symptom, and the check that finds each."""
