"""The web console at `/_ftsim/ui/`: one page per thing, rendered here. Unused, nothing of it is imported."""
