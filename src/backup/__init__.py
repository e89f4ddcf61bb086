"""Backups: what leaves the machine, its catalog, its schedule, its proof and its way back."""
