"""What etcd's user could plant where its data is looked at."""

from __future__ import annotations

import os

import pytest

from etcd import failure as failures
from etcd import offline


@pytest.mark.parametrize("kind", [failures.FailureKind.CORRUPT, failures.FailureKind.BAD_WAL])
@pytest.mark.parametrize("planted", ["pipe", "link"])
def test_given_no_file_in_the_place_of_data_when_looked_at_then_nothing_is_confirmed_nor_waits(
    tmp_path, kind, planted
):
    for name in ("wal/0000000000000000-0000000000000000.wal", "snap/db"):
        path = tmp_path / "member" / name
        path.parent.mkdir(parents=True)
        if planted == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
    assert not offline.confirms(failures.Failure(kind, "x"), tmp_path, None)
