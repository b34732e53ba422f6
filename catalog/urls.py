"""Routes of images and recipes, below `images/`. Builds are in `build_urls`."""

from __future__ import annotations

from django.urls import path

from catalog import views

mine = "mine/<int:pk>/"

urlpatterns = [
    path("", views.image_list, name="image-list"),
    path("<int:pk>/", views.image_detail, name="image-detail"),
    path("new/", views.recipe_new, name="recipe-new"),
    path("new/preview/", views.recipe_preview, name="recipe-preview"),
    path("new/import/", views.recipe_import, name="recipe-import"),
    path(mine, views.recipe_detail, name="recipe-detail"),
    path(mine + "edit/", views.recipe_edit, name="recipe-edit"),
    path(mine + "preview/", views.recipe_preview, name="recipe-edit-preview"),
    path(mine + "Dockerfile", views.recipe_dockerfile, name="recipe-dockerfile"),
    path(mine + "do/<slug:verb>/", views.recipe_verb, name="recipe-verb"),
    path(mine + "versions/<int:number>/delete/", views.version_delete, name="version-delete"),
]
