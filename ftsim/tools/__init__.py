"""What the larger commands carry out: bench, contract checks, the demo, torture; and generated docs."""
