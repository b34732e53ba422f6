"""Routes of builds, below `builds/`."""

from __future__ import annotations

from django.urls import path

from catalog import streams, views

build = "<uuid:pk>/"

urlpatterns = [
    path(build, views.build_detail, name="build-detail"),
    path(build + "head/", views.build_head, name="build-head"),
    path(build + "output/", streams.build_output, name="build-output"),
    path(build + "cancel/", views.build_cancel, name="build-cancel"),
    path(build + "log.txt", views.build_log_download, name="build-log-download"),
    path(build + "Dockerfile", views.build_dockerfile, name="build-dockerfile"),
]
