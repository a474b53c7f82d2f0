"""Models of our own for the architectures of the built-in stand-ins: torch alone, the numbers of transformers."""
