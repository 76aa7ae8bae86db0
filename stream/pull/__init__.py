"""Live sources of vendors: streams and polled feeds to the raw topics."""
