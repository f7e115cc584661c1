"""As little as a site needs."""

ALLOWED_HOSTS = ["127.0.0.1"]
DEBUG = True
INSTALLED_APPS = ["desk"]
ROOT_URLCONF = "desk.urls"
SECRET_KEY = "for tests"
USE_TZ = True
