"""Routes of containers, machine and limits."""

from django.urls import path

from workspaces import streams, views
from workspaces.views import installed

container = "containers/<uuid:pk>/"

urlpatterns = [
    path("", views.container_list, name="container-list"),
    path("launch/", views.container_launch, name="container-launch"),
    path("launch/preflight/", views.launch_preflight, name="launch-preflight"),
    path(container, views.container_detail, name="container-detail"),
    path(container + "card/", views.container_card, name="container-card"),
    path(container + "progress/", views.container_progress, name="container-progress"),
    path(container + "bars/", views.container_bars, name="container-bars"),
    path(container + "usage/", views.container_usage, name="container-usage"),
    path(container + "terminal/", views.container_terminal, name="container-terminal"),
    path(container + "logs/", views.container_logs, name="container-logs"),
    path(container + "logs/lines/", views.container_log_lines, name="container-log-lines"),
    path(container + "logs/download/", views.container_log_download, name="container-log-download"),
    path(container + "connect/", views.container_connect, name="container-connect"),
    path(container + "settings/", views.container_settings, name="container-settings"),
    path(container + "installed/", installed.container_installed, name="container-installed"),
    path(
        container + "installed/add/",
        installed.container_installed_add,
        name="container-installed-add",
    ),
    path(container + "snapshot/", installed.container_snapshot, name="container-snapshot"),
    path(container + "do/<slug:verb>/", views.container_verb, name="container-verb"),
    path("workspace/dependency-files/", views.dependency_files, name="workspace-dependency-files"),
    path("workspace/dependency-file/", views.dependency_file, name="workspace-dependency-file"),
    path("machine/", views.machine_view, name="machine"),
    path("limits/", views.limits_view, name="limits"),
    path("stream", streams.update_stream, name="stream"),
]
