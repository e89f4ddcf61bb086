"""What a person asks for: each verb, by an action or by `etcd-admin`."""
