"""Models: those of the catalogue, those that a promotion made, and links to their files."""
