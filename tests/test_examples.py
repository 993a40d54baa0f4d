"""The examples run, in their short form, save their figures, and learn something even so."""

import importlib.util
import pathlib
import sys

import matplotlib as mpl
import matplotlib.image
import matplotlib.pyplot as plt
import numba
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "examples"
# For each script its figures, and the share of right answers that the short form must reach.
EXAMPLES = {
    "digits_compiled": (["loss", "times"], 0.8),
    "digits": (["confusion", "feature_maps", "filters", "loss"], 0.8),
    "x_and_o": (["drawings", "filters", "loss", "matches"], 0.9),
    "basic_cnn": (["learning", "maps", "maxima"], 0.4),
}


def load(name):
    """The example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_every_example_is_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_short_form(name, tmp_path, capsys):
    figures, least = EXAMPLES[name]
    folder = tmp_path / "new" / "folder"
    accuracy = load(name).main(["--quick", "--output", str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}_{figure}.png" for figure in figures]
    for path in folder.iterdir():
        image = mpl.image.imread(path)
        assert min(image.shape[:2]) > 200
        assert np.std(image[..., :3]) > 0.01  # not blank
    assert least <= accuracy <= 1
    printed = capsys.readouterr().out
    assert f"{accuracy:.2%} of" in printed
    assert f"{len(figures)} figures in {folder}" in printed


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_gallery_script(name):
    text = (FOLDER / f"{name}.py").read_text()
    lines = text.splitlines()
    assert lines[0] == '"""'
    assert set(lines[2]) == {"="}
    assert len(lines[2]) == len(lines[1])
    assert text.count("\n# %%\n") >= 4
    assert text.endswith('if __name__ == "__main__":\n    main()\n')


@pytest.mark.parametrize("name", EXAMPLES)
def test_figures_go_to_figures_unless_told_otherwise(name, tmp_path, monkeypatch, capsys):
    example = load(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        example.main()
    assert stopped.value.code == 0
    assert "--quick" in capsys.readouterr().out


def test_the_compiled_step_gives_the_losses_of_the_plain_one():
    """The claims of ``digits_compiled.py``: of both examples, of Python and compiled code, and of any threads."""
    plain, example = load("digits"), load("digits_compiled")
    images, labels, *_ = (array[:320] for array in plain.load())
    _, losses = plain.train(images, labels, epochs=2)
    parameters, again, _ = example.train(example.python_step, images, labels, epochs=2)
    np.testing.assert_allclose(again, losses, rtol=1e-4)  # one sum of gradients is NumPy's there
    compiled, once_more, _ = example.train(example.step, images, labels, epochs=2)
    assert once_more == again
    assert [array.tobytes() for array in compiled] == [array.tobytes() for array in parameters]
    before, trained = numba.get_num_threads(), []
    for threads in (1, before):
        numba.set_num_threads(threads)
        shared, losses_of_shards, _ = example.train(example.parallel_step, images, labels, epochs=2)
        trained.append([array.tobytes() for array in shared])
    assert trained[0] == trained[1]
    np.testing.assert_allclose(losses_of_shards, losses, rtol=1e-2)


def test_filters_become_the_textbooks_strokes():
    """The claim of ``x_and_o.py``, which its short form is too short for."""
    example = load("x_and_o")
    rng = np.random.default_rng(0)
    labels, new_labels = rng.integers(0, 2, 3200), rng.integers(0, 2, 2000)
    drawings, new_drawings = example.draw(labels, rng), example.draw(new_labels, rng)
    filters, votes, losses = example.train(drawings, labels, epochs=12)
    *_, scores = example.forward(new_drawings, filters, votes)
    assert np.mean(scores.argmax(axis=1) == new_labels) >= 0.99
    assert np.mean(losses[-50:]) < np.mean(losses[:50]) / 3
    assert [name for name, *_ in example.best_matches(filters)] == ["diagonal", "antidiagonal", "cross"]
    assert min(correlation for *_, correlation in example.best_matches(filters)) > 0.7
    at_first, _ = example.initialise(np.random.default_rng(0))
    assert max(correlation for *_, correlation in example.best_matches(at_first)) < 0.55
