"""The app of the site; its client is made here, where both processes of the development server come by."""

from __future__ import annotations

from django.apps import AppConfig

from polyai_sync import Client

client = Client()


class DeskConfig(AppConfig):
    """One client for the site."""

    name = "desk"
