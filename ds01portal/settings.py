"""Settings: environment in, Django out. Every variable is explained in `.env.example`."""

from __future__ import annotations

import os
from pathlib import Path

import django_stubs_ext
import environ
from csp.constants import NONE, SELF

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")

DEVELOPMENT_SECRET_KEY = "development-only-secret-key-change-me"

# Web ---------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default=DEVELOPMENT_SECRET_KEY)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SECURE_COOKIES = env.bool("SECURE_COOKIES", default=not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = True
BEHIND_PROXY = env.bool("BEHIND_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
# Limits on sign-ins count by address; behind a proxy the one it names, else all share one.
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if BEHIND_PROXY else 0
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=0)
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
ROOT_URLCONF = "ds01portal.urls"
WSGI_APPLICATION = "ds01portal.wsgi.application"
ASGI_APPLICATION = "ds01portal.asgi.application"

INSTALLED_APPS = [
    "ds01portal",
    "catalog",
    "workspaces",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.forms",
    "allauth",
    "allauth.account",
    "channels",
    "csp",
    "django_htmx",
    "import_export",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "workspaces.context_processors.machine",
            ],
        },
    },
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
# Nothing inline. The terminal page alone adds a nonce for the style elements of xterm.js.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

# Database ----------------------------------------------------------------------------------------
DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Django's own defaults lose most concurrent read-then-write transactions to "locked".
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"].get("OPTIONS", {}),
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"].get("OPTIONS", {}),
        "pool": {"min_size": 1, "max_size": env.int("DATABASE_POOL_SIZE", default=20)},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# People ------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "ds01portal.Person"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "container-list"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_FORMS = {"login": "ds01portal.forms.SignInForm"}
ACCOUNT_ADAPTER = "ds01portal.accounts.AccountAdapter"
# allauth counts failed sign-ins in the cache, which all processes must share.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "portal_cache",
    }
}
vars().update(env.email("EMAIL_URL", default="consolemail://"))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="ds01@localhost")
DS01_UID_RANGE = env.str("DS01_UID_RANGE", default="200000-299999")

# Words, time, files ------------------------------------------------------------------------------
LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en")
# A language is offered once its texts are there: half a page translated helps nobody.
LANGUAGES = [("en", "English")]
TIME_ZONE = env.str("TIME_ZONE", default="Europe/Berlin")
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = env.path("STATIC_ROOT", default=VAR_DIR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG

# Engine ------------------------------------------------------------------------------------------
DOCKER_HOST = env.str("DOCKER_HOST", default="unix:///var/run/docker.sock")
DS01_ENGINE = env.str("DS01_ENGINE", default="ds01portal.engine.dockerd.DockerEngine")
DS01_ENGINE_TIMEOUT = env.int("DS01_ENGINE_TIMEOUT", default=60)
DS01_NETWORK_RANGE = env.str("DS01_NETWORK_RANGE", default="10.213.0.0/16")
DS01_NETWORK_PREFIX = env.int("DS01_NETWORK_PREFIX", default=27)
DS01_MEMLOCK = env.int("DS01_MEMLOCK", default=-1)
DS01_STACK = env.int("DS01_STACK", default=67_108_864)
DS01_DISK_FLOOR = env.int("DS01_DISK_FLOOR", default=10 * 1024**3)
DS01_WORKER_THREADS = env.int("DS01_WORKER_THREADS", default=12)
DS01_PULL_TIMEOUT = env.int("DS01_PULL_TIMEOUT", default=7200)

# Catalogue and GPUs ------------------------------------------------------------------------------
AIME_CATALOG = env.str("AIME_CATALOG", default="")
MLC_ARCH = env.str("MLC_ARCH", default="")
DS01_REGISTRY_MIRROR = env.str("DS01_REGISTRY_MIRROR", default="")
DS01_CATALOG_FALLBACKS = env.dict(
    "DS01_CATALOG_FALLBACKS",
    default={
        "pytorch": "pytorch/pytorch:2.5.1-cuda12.1-cudnn9-runtime",
        "tensorflow": "tensorflow/tensorflow:2.14.0-gpu",
    },
)
DS01_GPUS = env.str("DS01_GPUS", default="nvml")

# Builds: how steps reach packages; kept in no image ---------------------------------------------
DS01_PIP_INDEX_URL = env.str("DS01_PIP_INDEX_URL", default="")
DS01_APT_MIRROR = env.str("DS01_APT_MIRROR", default="")
DS01_BUILD_PROXIES = {
    "HTTP_PROXY": env.str("HTTP_PROXY", default=os.environ.get("http_proxy", "")),
    "HTTPS_PROXY": env.str("HTTPS_PROXY", default=os.environ.get("https_proxy", "")),
    "NO_PROXY": env.str("NO_PROXY", default=os.environ.get("no_proxy", "")),
}

# Folders -----------------------------------------------------------------------------------------
DS01_WORKSPACE_ROOT = env.str("DS01_WORKSPACE_ROOT", default="")
DS01_STATE_DIR = env.str("DS01_STATE_DIR", default=str(VAR_DIR / "state"))
DS01_SHARED_ROOTS = env.list("DS01_SHARED_ROOTS", default=[])

# People's help -----------------------------------------------------------------------------------
DS01_SSH_HOST = env.str("DS01_SSH_HOST", default="ds01")
DS01_CONTACT = env.str("DS01_CONTACT", default="")

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
}
