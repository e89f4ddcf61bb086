"""Keys and leases: what the charm itself keeps in its etcd, and what it looks at."""

from __future__ import annotations

from typing import Any

import errors
from etcd import grpc_calls, responses, transport


class Keys(transport.Transport):
    """Keys and leases of a cluster."""

    def get(self, key: str | bytes, serializable: bool = False) -> responses.KeyValue | None:
        """A key's value, or None when there is no such key."""
        fields = {"key": _bytes(key), "serializable": serializable}
        found = self._request("Range", fields).get("kvs")
        return responses.key_value(found[0]) if found else None

    def get_prefix(self, prefix: str | bytes, limit: int = 0) -> tuple[responses.KeyValue, ...]:
        """All keys that begin with `prefix`, in order, at most `limit` (0: all)."""
        start = _bytes(prefix) or b"\0"
        end = _prefix_end(_bytes(prefix))
        request = grpc_calls.messages().RangeRequest(key=start, range_end=end, limit=limit)
        response = self._call("kvstub", "Range", request)
        return tuple(
            responses.key_value(facts) for facts in responses.range_facts(response)["kvs"]
        )

    def count(self) -> int:
        """How many keys there are; etcd goes through its whole index for it."""
        request = grpc_calls.messages().RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
        return int(self._call("kvstub", "Range", request).count)

    def put(self, key: str | bytes, value: str | bytes, lease: int = 0) -> int:
        """Write a key; answers the store's new revision."""
        request = grpc_calls.messages().PutRequest(
            key=_bytes(key), value=_bytes(value), lease=lease
        )
        return int(self._call("kvstub", "Put", request).header.revision)

    def delete(self, key: str | bytes) -> int:
        """Delete a key; answers the store's new revision, 0 when there was no such key."""
        response = self._call(
            "kvstub", "DeleteRange", grpc_calls.messages().DeleteRangeRequest(key=_bytes(key))
        )
        return int(response.header.revision) if response.deleted else 0

    def create(self, key: str | bytes, value: str | bytes, lease: int = 0) -> int:
        """Write a key that does not exist; answers the new revision, 0 when it does exist."""
        return self.replace(key, value, 0, lease)

    def replace(
        self, key: str | bytes, value: str | bytes, mod_revision: int, lease: int = 0
    ) -> int:
        """Write a key last changed at `mod_revision` (0: that does not exist).

        Answers the store's new revision, 0 when the key is another than that.
        """
        fields = {"key": _bytes(key), "value": _bytes(value), "lease": lease}
        return self._txn(key, mod_revision, "request_put", fields)

    def withdraw(self, key: str | bytes, mod_revision: int) -> int:
        """Delete a key last changed at `mod_revision`; answers as `replace` does."""
        return self._txn(key, mod_revision, "request_delete_range", {"key": _bytes(key)})

    def _txn(
        self, key: str | bytes, mod_revision: int, operation: str, fields: dict[str, Any]
    ) -> int:
        compare = {"target": "MOD", "key": _bytes(key), "mod_revision": mod_revision}
        request = {"compare": [compare], "success": [{operation: fields}]}
        answer = self._request("Txn", request, repeatable=False)
        return int(answer["header"]["revision"]) if answer.get("succeeded") else 0

    # Leases

    def grant(self, ttl: int) -> int:
        """A lease of `ttl` seconds; answers its ID."""
        return int(self._request("LeaseGrant", {"TTL": ttl})["ID"])

    def keep_alive(self, lease: int) -> int:
        """Renew a lease; answers its seconds to live, 0 when it is gone."""
        answer = self._request("LeaseKeepAlive", {"ID": lease})
        return max(int(answer.get("TTL", 0)), 0)

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys; one that is gone is no error."""
        try:
            self._request("LeaseRevoke", {"ID": lease})
        except errors.RefusedError as error:
            if "lease not found" not in error.reason:
                raise


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _prefix_end(prefix: bytes) -> bytes:
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"
