"""Names of folders: each is where it says, or is refused in one line; and JSON that was changed is told apart."""

import os
from pathlib import Path

import pytest

from gandyn.results import files, store
from gandyn.results.reading import open_recorded


@pytest.mark.parametrize("name", ["r[1]", "a b", "C:\\runs\\x", "a/gs:/b", os.fsdecode(b"\xff"), "ä", "-x", "."])
def test_a_name_is_what_it_says_wherever_the_program_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = files.folder_of(name)
    assert folder.is_absolute()
    assert folder == Path(f"{tmp_path}/{name}")
    store.check_output(name)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_person(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.folder_of("~/runs/x") == files.folder_of(Path("~/runs/x")) == tmp_path / "runs" / "x"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "out: got ''; allowed: the name of a folder"),
        ("a\0b", r"out: got 'a\\x00b'; allowed"),
        ("gs:/b", "out: got 'gs:/b'; allowed: a folder; that is an address"),
        ("s3://bucket/x", "that is an address"),
        (Path("gs://bucket/x"), "that is an address"),
        ("~nobody-at-all/x", "out: got '~nobody-at-all/x'; allowed: a folder"),
        ("x" * 256, "out: got a name of 256 bytes, 'xxx.*; allowed: 255"),
        ("é" * 128, "out: got a name of 256 bytes"),
        ("a/" + "x" * 300 + "/b", "out: got a name of 300 bytes"),
        (
            "y" * 250 + ("/" + "x" * 250) * 16,
            "out: got a path that makes those of its files 4,[0-9]+ bytes; allowed: 4,096",
        ),
    ],
)
def test_what_names_no_folder_is_refused_before_anything_is_written(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said) as caught:
        store.check_output(name)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_name_is_not_the_one_that_one_works_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="path: got ''; allowed: the name of a folder"):
        open_recorded("")


def test_json_that_was_changed_is_told_from_what_was_written(tmp_path):
    files.write_json(tmp_path / "a", {"name": "ä\udcff", "number": 0.1})
    assert files.check_signed(files.read_json(tmp_path / "a")) == {"name": "ä\udcff", "number": 0.1}
    whole = (tmp_path / "a").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            again = files.check_signed(files.read_json(tmp_path / "a"))
        except ValueError:
            continue
        assert again == {"name": "ä\udcff", "number": 0.1}, place  # a space


def test_an_empty_folder_gives_way_to_a_file_and_one_with_something_in_it_does_not(tmp_path):
    (tmp_path / "a").mkdir()
    files.write_json(tmp_path / "a", {})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("do not lose")
    with pytest.raises(OSError, match=str(tmp_path / "b")):
        files.write_json(tmp_path / "b", {})
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a", "b", "thesis.txt"]
