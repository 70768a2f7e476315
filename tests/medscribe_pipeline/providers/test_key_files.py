"""Key files that systemd or Kubernetes hand to one service: root's, readable by its group."""

from __future__ import annotations

import os
from pathlib import Path, PosixPath

import pytest

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.key_files import KeyFile

ROOT, SERVICE = 0, 10001


class Owned(PosixPath):
    """A file that says it is root's, whoever runs the tests."""

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        found = super().stat(follow_symlinks=follow_symlinks)
        return os.stat_result((*found[:4], ROOT, *found[5:]))


def read(folder: Path, mode: int) -> bytes:
    path = Owned(folder / "key.pem")
    path.write_bytes(b"synthetic")
    path.chmod(mode)
    return KeyFile(path, client="ehr", setting="MEDSCRIBE_EHR_PRIVATE_KEY_FILE").read()


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_what_root_hands_to_a_group_is_taken(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)

    assert read(tmp_path, mode) == b"synthetic"


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o644, 0o450, 0o777])
def test_no_more_than_that(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)

    with pytest.raises(ConfigError, match="open to other users"):
        read(tmp_path, mode)


def test_roots_own_key_is_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: ROOT)

    with pytest.raises(ConfigError, match="open to other users"):
        read(tmp_path, 0o440)
