"""One module a command of `earlybird`, imported only when it is called."""
