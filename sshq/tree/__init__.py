"""Trees that travel: what of a directory is taken along, and how it is cut into pieces that are named by their content.

A tree is a tar stream in canonical form, cut into chunks; a list of their digests is its manifest, and the digest of that its
name.  A node needs `cat` and `tar` to build it.  Used by commands (who make a snapshot) and by the controller (who sends it).
"""
