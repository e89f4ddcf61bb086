"""Juju and etcd small enough to be played by the million: histories, and what they must expose."""
