"""What every page shows of the machine."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from workspaces.models import Machine


def machine(request: HttpRequest) -> dict[str, Any]:
    """Return the engine's status and whether GPUs are simulated, for signed-in people."""
    if not request.user.is_authenticated:
        return {}
    row = Machine.objects.filter(pk=1).first()
    return {"engine_status": row, "gpus_simulated": bool(row and row.is_simulated)}
