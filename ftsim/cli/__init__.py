"""One module per command: options, one call, output. Nothing heavy is imported before a command runs."""
