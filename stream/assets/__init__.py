"""The demo's feed: invented companies, invented news."""
