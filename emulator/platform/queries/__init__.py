"""What list requests ask for: filters and pages."""
