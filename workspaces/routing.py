"""WebSocket routes."""

from django.urls import path

from workspaces.consumers import TerminalConsumer

websocket_urlpatterns = [
    path("ws/containers/<uuid:pk>/terminal", TerminalConsumer.as_asgi()),
]
