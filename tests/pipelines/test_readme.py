"""The README's tour runs as it is written, in a fresh folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_tour_runs(tmp_path):
    blocks = re.findall(r"<!-- tour -->\n```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(blocks) == 4
    assert len(lines) >= 25
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in lines:
        command, environment = ["bash", "-c", line], {**os.environ, "PATH": path}
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == 0, f"{line}\n{ended.stdout}\n{ended.stderr}"
    assert (tmp_path / "tour" / "report.html").exists()
    code = re.search(r"<!-- python -->\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    check = f"{code[1]}\nassert len(sequences) > 100 and len(sequences[0]['input_ids']) == 512"
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, check=True, timeout=300)
