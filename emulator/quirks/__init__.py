"""Production failures as named switches: the engine, the table of all of them, and named sets (profiles)."""
