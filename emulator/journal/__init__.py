"""The journal of all that was asked of the platform: kept, and written to a file without keys."""
