"""Decides everything, does nothing: pure functions and data, standard library only."""
