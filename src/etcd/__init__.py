"""Everything about etcd itself; nothing here knows Juju."""
