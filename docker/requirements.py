"""Print what the named distributions need from outside, so that an image installs it in a layer of its own."""

import sys
import tomllib
from pathlib import Path

for folder in sys.argv[1:]:
    project = tomllib.loads(Path(folder, "pyproject.toml").read_text())["project"]
    wanted = [need for need in project["dependencies"] if not need.startswith("squeezeota-")]
    sys.stdout.write("".join(f"{need}\n" for need in wanted))
