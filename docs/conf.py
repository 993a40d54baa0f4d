"""Configuration of the documentation: ``nox -s docs``, or ``sphinx-build docs docs/_build/html``."""

import fastconv

project = "fastconv"
author = "The fastconv authors"
copyright = "2026, The fastconv authors"
version = release = fastconv.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_validation_exclude = {
    r"\.PackedWeight$",  # made by pack, which documents its parameters
    r"Grads",
    r"MaxPooled",
}  # named tuples: the fields are the arguments they are named after
numpydoc_validation_checks = {"GL06", "GL07", "PR01", "PR02", "PR03", "RT01", "SS01"}

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "download_all_examples": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "fastconv"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
