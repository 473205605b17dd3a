"""`pip install .` without traces: setuptools' build/ and *.egg-info go into a folder that is gone when it ends.

What is installed stands in pyproject.toml.
"""

import atexit
import shutil
import tempfile

from setuptools import setup

folder = tempfile.mkdtemp(prefix="qdeq-deq-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
setup(options={"build": {"build_base": folder}, "egg_info": {"egg_base": folder}})
