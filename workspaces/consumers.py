"""The web terminal (being written)."""
from channels.generic.websocket import AsyncWebsocketConsumer


class TerminalConsumer(AsyncWebsocketConsumer):
    """Shell in a container."""
