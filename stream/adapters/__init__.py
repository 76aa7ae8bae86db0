"""Where the world is: the sole home of third-party clients."""
