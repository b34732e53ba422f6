"""WSGI entry point, for tools that want one. The portal itself is served by `ds01portal.asgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ds01portal.settings")
application = get_wsgi_application()
