"""What people see in a notebook: in a real kernel, cells as they are displayed."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[1]

SMALL = """
import gandyn
target = gandyn.targets.ring(num_modes=4, std=0.1)
config = gandyn.Config(gen_width=8, disc_width=8, batch_size=16)
measure = gandyn.MeasureConfig(num_nodes=64, num_density_nodes=1024)
results = gandyn.run(target, config, seeds=range(2), num_steps=8, measure_every=2, measure_config=measure)
"""


def executed(cells: list[str], folder: Path) -> list[list[Any]]:
    """The outputs of each cell, as a new kernel of this Python gives them in a folder."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}})
    client.create_kernel_manager()
    # This Python, whatever kernels are installed; and what tests import, a checkout that is not installed included.
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute(env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])})
    return [cell.outputs for cell in notebook.cells]


def cells_of(notebook: str) -> list[str]:
    """The code cells of a notebook in the percent format of jupytext."""
    text = (ROOT / "notebooks" / notebook).read_text(encoding="utf-8")
    parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)[1:]
    return [body for kind, body in zip(parts[::2], parts[1::2], strict=True) if "markdown" not in kind]


def pictures(outputs: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def on_stderr(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stderr")


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> list[list[Any]]:
    """A run, its table, and figures without and with matplotlib's own backend for notebooks."""
    cells = [
        SMALL,
        "gandyn.report.table(results)",
        "gandyn.plots.decomposition(results)",
        "figure = gandyn.plots.overview(results)",
        "%matplotlib inline",
        "gandyn.plots.decomposition(results)",
        "figure = gandyn.plots.overview(results)",
        "figure.savefig('overview.png')\nfrom pathlib import Path\nPath('overview.png').stat().st_size > 1000",
        "names = [n for n in gandyn.plots.__all__ if hasattr(getattr(gandyn.plots, n), 'draws')]\n"
        "type(figure).__mro__[1].__name__, len(names) > 10",
    ]
    return executed(cells, tmp_path_factory.mktemp("notebook"))


@pytest.mark.slow
def test_a_figure_shows_itself_once(shown):
    for cell in (2, 5):
        assert len(shown[cell]) == 1
        assert pictures(shown[cell]) == 1
    for cell in (3, 6):
        assert shown[cell] == []
    assert shown[7][0].data["text/plain"] == "True"
    assert shown[8][0].data["text/plain"] == "('Figure', True)"


@pytest.mark.slow
def test_progress_is_a_bar_in_the_cell(shown):
    assert on_stderr(shown[0]) == ""
    (bar,) = shown[0]
    assert bar.output_type == "display_data"
    assert '<progress max="1" value="1.0000"' in bar.data["text/html"]
    assert re.match(r"100%  [\d,]+ run-steps/s  non_saturating", bar.data["text/plain"])


@pytest.mark.slow
def test_the_table_is_one(shown):
    (output,) = shown[1]
    assert output.data["text/html"].count("<table") == 1
    assert "non_saturating" in output.data["text/html"]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(path.name for path in (ROOT / "notebooks").glob("*.py")))
def test_the_notebooks_run(notebook, tmp_path):
    """A cell that ends in a figure shows it once; none writes to stderr."""
    cells = cells_of(notebook)
    quick = f"QUICK, FIGURES = True, {str(tmp_path / 'figures')!r}"
    outputs = executed([quick, *cells], tmp_path)[1:]
    last = [cell.strip().splitlines()[-1] for cell in cells]
    figures = {"decomposition", "against", "mosaic"}
    for cell, line, got in zip(cells, last, outputs, strict=True):
        assert on_stderr(got) == "", cell
        if line in figures or line.startswith("gandyn.plots."):
            assert pictures(got) == 1, cell
    if notebook == "convergence.py":
        assert sum(map(pictures, outputs)) >= 3
