"""Routes of the catalogue, below `images/`."""

from __future__ import annotations

from django.urls import path

from catalog import views

urlpatterns = [
    path("", views.image_list, name="image-list"),
    path("<int:pk>/", views.image_detail, name="image-detail"),
]
