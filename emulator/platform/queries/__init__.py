"""Reads what list requests ask for: filters and pages."""
