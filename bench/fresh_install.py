"""The locked dependencies into a new environment by pip, which is removed again: `python -m bench.fresh_install`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"


def main() -> None:
    """Installs; whatever is wrong, pip tells."""
    with tempfile.TemporaryDirectory(prefix="medscribe-bench-") as folder:
        venv.create(folder, with_pip=True)
        install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK)]
        ended = subprocess.run([f"{folder}/bin/python", "-m", "pip", *install], check=False)  # noqa: S603 - our own lock
    sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
