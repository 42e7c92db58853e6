"""The embedded parts: Valkey from a wheel, and the provider sandbox."""
