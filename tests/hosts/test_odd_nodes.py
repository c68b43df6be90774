"""Odd nodes: every kind of odd host either runs jobs or is told about in plain words, never half of each."""
