"""`byok top`: what the system does now, in a terminal, a picture or JSON."""
