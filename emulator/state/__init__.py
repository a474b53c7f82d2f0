"""All state of the platform: entities, the world that holds them, the store and the blobs behind it. Knows no HTTP."""
