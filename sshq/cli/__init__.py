"""One file a command; the only package that prints."""
