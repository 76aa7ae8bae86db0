"""One module per command of `earlybird`, imported only when the command is called."""
