"""The life of a provider key: added, validated, replaced, removed."""
