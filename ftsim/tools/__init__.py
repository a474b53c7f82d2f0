"""The work of the larger commands: bench, contract checks, the demo, torture; and generated docs."""
