"""mpq as another project has it: the wheel, installed by pip into an environment in which the checkout cannot be found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "example_project"
OWN = ("mpq", "machine_perceptual_quality", "__editable__", "__pycache__")
PYTEST = "import sys\n\nfrom pytest import console_main\n\nsys.exit(console_main())\n"


def build_wheel(folder: Path) -> Path:
    """Build mpq's wheel from a copy of the checkout, so that nothing of an earlier build gets into it, and return where it lies."""
    source = folder / "source"
    shutil.copytree(ROOT / "mpq_fixtures", source / "mpq_fixtures", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder / "wheels"), "."]
    subprocess.run(pip, cwd=source, check=True)
    return folder / "wheels"


class Machine:
    """A machine of its own: an empty home, an environment without mpq, and pip that knows the wheel and no index."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder, self.home, self.packages = folder, folder / "home", folder / "environment"
        self.home.mkdir(parents=True)
        venv.create(self.packages, symlinks=True)
        self._lend_packages()
        self.bin = self.packages / "bin"
        # Only pip writes commands; this is the one that it would have written of pytest.
        (self.bin / "pytest").write_text(f"#!{self.bin / 'python'}\n{PYTEST}")
        (self.bin / "pytest").chmod(0o755)
        self.environment = {
            "PATH": os.pathsep.join([str(self.bin), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _lend_packages(self) -> None:
        """Give the environment what this one has, but for mpq."""
        [own] = (self.packages / "lib").glob("python*/site-packages")
        lent = self.folder / "lent"
        lent.mkdir()
        for site in dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib")):
            for path in Path(site).iterdir():
                if not path.name.startswith(OWN) and path.suffix not in (".pth", ".egg-link"):
                    (lent / path.name).symlink_to(path)
        (own / "lent.pth").write_text(f"{lent}\n")

    def run(self, *command: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; what it wrote to both streams is in ``stdout``."""
        environment = self.environment | more
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        sys.stdout.write(f"$ {' '.join(command)}\n{done.stdout}")  # for the report of a test that fails
        return done
