"""A file that cannot be used is told with the flag that chooses its place."""

import errno
from argparse import Namespace
from pathlib import Path

import pytest

import reproduce
from reproduction.blame import flag_of_a_file
from runs.settings import SettingsError

R, W = Path("/r"), Path("/w/paper")
OPTIONS = Namespace(results_dir=R, images_dir=R / "images", work_dir=W, html=None, seeds=[0])


@pytest.mark.parametrize("path, flag", [
    ("/r/table1.json", "--results_dir"), ("/r", "--results_dir"), ("/r/images/fig.svg", "--images_dir"),
    ("/w/paper/table1/row/seed-0/log.txt", "--work_dir"), ("/w", "--work_dir"), (Path("/w/paper"), "--work_dir"),
])  # fmt: skip
def test_the_nearest_place_is_blamed(path, flag):
    with pytest.raises(SettingsError, match=rf"^{flag}: cannot use {path} \(No space left on device\).*{flag}$"):
        with flag_of_a_file(OPTIONS):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.parametrize("error", [OSError(2, "gone", "/elsewhere"), OSError("no file"), OSError(9, "bad", 3)])
def test_what_no_flag_chooses_stays_as_it_is(error):
    with pytest.raises(OSError) as raised, flag_of_a_file(OPTIONS):
        raise error
    assert raised.value is error


@pytest.mark.slow
@pytest.mark.parametrize("words, flag", [
    (["figures", "--images_dir"], "--images_dir"),
    (["theory", "--dataset", "digits", "--results_dir"], "--results_dir"),
])  # fmt: skip
def test_a_folder_below_a_file_ends_in_one_line(words, flag, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        reproduce.main([*words, str(tmp_path / "file" / "folder")])
    error = capsys.readouterr().err
    assert end.value.code == 1 and error.count("\n") == 1 and f"error: {flag}: cannot use {tmp_path / 'file'}" in error
