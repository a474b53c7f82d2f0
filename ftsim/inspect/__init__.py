"""Everything that a person looks at: listings, explanations, saved states, curves, journals replayed."""
