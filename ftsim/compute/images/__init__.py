"""Images: from a file's bytes to what a model that sees is given."""
