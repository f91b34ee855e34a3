"""Vector indices: the port every one implements, and the embedded one. A driver is imported in its own module only."""
