"""Routes of containers, machine and limits."""

from django.urls import path

from workspaces import views

urlpatterns = [
    path("", views.container_list, name="container-list"),
]
