"""The `byok` command."""
