"""What was asked of the platform: kept, written to a file without keys."""
