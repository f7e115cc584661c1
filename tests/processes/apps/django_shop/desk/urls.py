"""What can be asked."""

from __future__ import annotations

from django.urls import path

from desk import views

urlpatterns = [path("ask", views.ask), path("keep", views.keep)]
