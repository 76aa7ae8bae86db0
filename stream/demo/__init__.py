"""`earlybird demo`: an invented feed, the table of its odd items, and a whole stage to play it through."""
