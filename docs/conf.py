"""Sphinx's settings: `tox -e docs`."""

import sys
from pathlib import Path

import polyai_sync

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "polyai-sync"
author = "the authors of polyai-sync"
release = version = polyai_sync.__version__

extensions = ["sphinx.ext.autodoc", "myst_parser", "tables", "references"]
exclude_patterns = ["_*"]
nitpicky = True
smartquotes_action = "D"  # dashes; quotes stay as the catalogue has them
default_role = "word"  # of _ext/references.py: single backticks in a docstring

html_theme = "furo"
html_title = f"polyai-sync {release}"
html_static_path = ["_static"]
html_css_files = ["extra.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 100

# What is documented elsewhere, and there is no inventory to ask without a network.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(collections\.abc|concurrent|contextlib|datetime|enum|json|logging|pathlib|random|ssl|types|typing)\..*",
    ),
    ("py:.*", r"(aiohttp|attrs?|pluggy|pytest|requests|urllib3|websocket)\..*"),
    ("py:class", "_T|EllipsisType|Random"),
]
