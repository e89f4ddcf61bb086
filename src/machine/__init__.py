"""The operating system; nothing here knows etcd or Juju."""
