"""Several processes that read, tokenise and publish, and one engine that answers them all."""
