"""Slurm's words, data first: options, fields, layouts, environment, messages."""
