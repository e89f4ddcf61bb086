"""The resident service of a unit: what happens between the hooks."""
