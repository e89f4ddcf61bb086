"""Certificate authorities and certificates on disk; knows nothing of Juju."""
