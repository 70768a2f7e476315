"""The locked dependencies into a new environment, which is removed again: `python -m bench.fresh_install`.

As `make` does it: the pip that came with Python installs the locked one, and that all the rest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTALL = ("install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r")


def main() -> None:
    """Installs; whatever is wrong, pip tells."""
    with tempfile.TemporaryDirectory(prefix="medscribe-bench-") as folder:
        venv.create(folder, with_pip=False)
        new, brought = f"{folder}/bin/python", f"{sys.base_prefix}/bin/python3"
        for command in (
            (brought, "-m", "pip", "--python", new, *INSTALL, "requirements-pip.lock"),
            (new, "-m", "pip", *INSTALL, "requirements.lock"),
        ):
            ended = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603 - our own locks
            if ended.returncode:
                sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
