"""Membership policy: pure functions over frozen pictures, no I/O, no imports of ours."""
