"""Base models: the catalogue, their tokenizer, how they were made, and the offline hub that hands them out."""
