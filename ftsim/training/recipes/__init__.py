"""One module per recipe, each a `Config` and a `main(config)`."""
