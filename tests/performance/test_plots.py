"""Every file that is drawn, and what is copied into the documentation."""

from __future__ import annotations

import json

import pytest

from bench import publish
from bench.__main__ import benches


def test_no_two_pictures_share_a_file():
    groups = {one.group for one in benches().values() if one.curves is None}
    curves = [one.name for one in benches().values() if one.curves is not None]
    assert len(groups | set(curves)) == len(groups) + len(curves)


def test_figures_are_published_in_place_of_the_earlier_ones(tmp_path):
    run, data, pictures = tmp_path / "run", tmp_path / "bench.json", tmp_path / "plots"
    for folder in (run, pictures):
        folder.mkdir()
    (run / "bench.json").write_text("{}", encoding="utf-8")
    (run / "events.svg").write_text("<svg/>", encoding="utf-8")
    (pictures / "old.svg").touch()
    assert publish.publish(run, data, pictures) == [data, pictures / "events.svg"]
    assert json.loads(data.read_text(encoding="utf-8")) == {}
    assert [path.name for path in pictures.iterdir()] == ["events.svg"]


def test_figures_without_plots_are_not_published(tmp_path):
    (tmp_path / "bench.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit, match="no plots"):
        publish.publish(tmp_path, tmp_path / "kept.json", tmp_path / "plots")
    assert not (tmp_path / "kept.json").exists()
