"""A configuration of gunicorn's: patch before anything else is imported, as ``--preload`` needs it."""

from gevent import monkey

monkey.patch_all()
