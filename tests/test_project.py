"""The files around the package say what is true."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import gandyn

ROOT = Path(__file__).resolve().parents[1]
AWAITED = {"chex"}  # declared for checks at the boundary to a user's parts


def test_constraints_hold_pins_and_nothing_else():
    """No registry address, no option, no path: the file must mean the same everywhere."""
    pin = re.compile(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*( ; [a-z_]+ [<>=!]+ '[a-z0-9.]+'( and .*)?)?")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if not pin.fullmatch(line)] == []


def test_every_requirement_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = project["dependencies"] + [
        r for name in ("dev", "ray", "parquet", "tensorboard") for r in extras[name]
    ]
    names = {re.split(r"[^A-Za-z0-9.-]", r)[0].lower() for r in requirements}
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    assert names - pinned == {"gandyn"}, "run `make constraints`"


def test_jax_0_10_2_is_excluded_everywhere():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    on_jax = [r for group in groups for r in group if re.match(r"jax(\[|[<>=!~ ]|$)", r)]
    assert len(on_jax) >= 1
    for requirement in on_jax:
        assert "!=0.10.2" in requirement, "jax issue 39103: wrong values on CPU"
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^jax(lib)?==0\.10\.2\b", constraints, re.MULTILINE) is None


def test_public_names_resolve():
    names = getattr(gandyn, "__all__", None)
    if names is None:
        pytest.skip("gandyn has no __all__ yet")
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(gandyn, name)] == []


def test_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert version in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert version == gandyn.__version__


def test_every_dependency_is_imported_somewhere():
    """By the package, or by its tests: what is declared and unused goes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in project["dependencies"]} - AWAITED
    sources = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "gandyn").rglob("*.py"))
    for name in names:
        assert re.search(rf"^ *(import|from) {name}\b", sources, re.MULTILINE), name


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("target", "wanted"), [("run", "'.'"), ("test", "'.[dev]'"), ("slow", "'.[dev,ray]'"), ("bench", "'.[bench]'")]
)
def test_what_a_make_target_installs(target, wanted):
    """An argument of make's call ends at a comma."""
    command = ["make", "-n", "-B", target, f"PYTHON={sys.executable}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installs = [line.split(" --editable ")[1].split()[0] for line in shown.splitlines() if " --editable " in line]
    assert installs == [wanted]


@pytest.mark.slow  # pip fetches all that is installed
@pytest.mark.skipif(shutil.which("make") is None or not (ROOT / ".git").exists(), reason="needs make and a checkout")
def test_every_make_target_runs_from_a_fresh_clone(tmp_path):
    """With nothing installed before; what takes long does as little of it as its arguments allow."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, capture_output=True)
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = {}
    for target, arguments in (
        ("help", ""),
        ("slow", "--collect-only -q tests/sweeps/test_cluster.py"),
        ("test", "-q tests/test_imports.py tests/cli/test_parsing.py"),
        ("run", "--help"),
        ("lint", ""),
        ("format", ""),
        ("clean", ""),
    ):
        words = ["make", target, f"PYTHON={sys.executable}", f"ARGS={arguments}", "WORKERS=0"]
        ended = subprocess.run(words, cwd=clone, env=own, capture_output=True, text=True)
        assert ended.returncode == 0, (target, ended.stdout[-2000:], ended.stderr[-2000:])
        done[target] = ended.stdout
    assert "setting up .venv" in done["slow"]
    assert "test_cluster.py::" in done["slow"]
    assert " passed" in done["test"]
    assert "usage" in done["run"]
    assert not list(clone.glob(".venv*"))
    assert subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True).stdout == ""


def test_it_says_that_it_has_types():
    assert (ROOT / "gandyn" / "py.typed").is_file()


@pytest.mark.slow  # pip fetches the build system
def test_the_wheel_is_whole_and_runs_outside_the_repository(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("gandyn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("gandyn/")}
        archive.extractall(tmp_path / "installed")
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gandyn").rglob("*") if path.is_file()}
    assert names == {name for name in tracked if "__pycache__" not in name}
    assert {"gandyn/py.typed", "gandyn/cli/catalogue.json", "gandyn/report/gandyn.mplstyle"} <= names
    own = {"PYTHONPATH": str(tmp_path / "installed")}
    for arguments in (["list", "losses"], ["run", "--help"]):
        command = [sys.executable, "-P", "-m", "gandyn", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=True)
        assert "hinge" in done.stdout
    command = [sys.executable, "-P", "-c", "import gandyn; print(gandyn.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path / "installed"))


def test_commands_in_the_documents_exist():
    """Every `make target` and every script that the README and docs/ tell people to run."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert {"run", "test", "slow", "lint", "format", "bench", "constraints", "clean", "help"} <= targets
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))
        for target in re.findall(r"(?:^|[`\n$&;] *)make ([a-z]+)\b", code):
            assert target in targets, f"{path.name} says `make {target}`"
        for script in re.findall(r"\bpython3? ((?:experiments|benchmarks)/[\w/]+\.py)", code):
            assert (ROOT / script).is_file(), f"{path.name} says `python {script}`"
