"""Groups with their limits, limits for everybody, and the table of the shared cache."""

from django.core.management import call_command
from django.db import migrations

from ds01portal.limits import UNLIMITED

GB = 1024**3
HOUR = 3600

DEFAULTS = {
    "gpueq": 1.0,
    "devices_per_container": 1,
    "containers": 3,
    "cpus": 32,
    "memory": 32 * GB,
    "swap": 0,
    "shm": 16 * GB,
    "pids": 4096,
    "total_cpus": UNLIMITED,
    "total_memory": UNLIMITED,
    "max_runtime": 24 * HOUR,
    "idle_timeout": HOUR // 2,
    "gpu_hold": HOUR // 4,
    "container_hold": HOUR // 2,
    "images": UNLIMITED,
    "disk": UNLIMITED,
}
# In the order that decides for somebody in several groups.
GROUPS = {
    "student": {
        "gpueq": 2.0,
        "devices_per_container": 2,
        "total_cpus": 96,
        "total_memory": 96 * GB,
    },
    "researcher": {
        "gpueq": 4.0,
        "devices_per_container": 3,
        "containers": 5,
        "cpus": 48,
        "memory": 64 * GB,
        "swap": 0,
        "shm": 32 * GB,
        "total_cpus": 240,
        "total_memory": 320 * GB,
        "max_runtime": 48 * HOUR,
        "idle_timeout": HOUR,
    },
    "faculty": {
        "gpueq": 4.0,
        "devices_per_container": 4,
        "containers": 5,
        "cpus": 64,
        "memory": 128 * GB,
        "swap": 0,
        "shm": 64 * GB,
        "total_cpus": 320,
        "total_memory": 640 * GB,
        "max_runtime": 72 * HOUR,
        "idle_timeout": 2 * HOUR,
    },
    "admin": {
        "gpueq": UNLIMITED,
        "devices_per_container": UNLIMITED,
        "containers": 10,
        "cpus": 64,
        "memory": 128 * GB,
        "swap": 0,
        "shm": 64 * GB,
        "max_runtime": 24 * HOUR,
        "idle_timeout": HOUR,
        "gpu_hold": HOUR,
    },
}


def seed_limits(apps, schema_editor):
    Group = apps.get_model("auth", "Group")
    Quota = apps.get_model("ds01portal", "Quota")
    alias = schema_editor.connection.alias
    Quota.objects.using(alias).get_or_create(
        layer="defaults", defaults={**DEFAULTS, "policies": {"default_group": "student"}}
    )
    for number, (name, limits) in enumerate(GROUPS.items(), start=1):
        group, _created = Group.objects.using(alias).get_or_create(name=name)
        Quota.objects.using(alias).get_or_create(
            layer="group", group=group, defaults={**limits, "priority": 10 * number}
        )


def create_cache_table(_apps, schema_editor):
    call_command("createcachetable", database=schema_editor.connection.alias, verbosity=0)


class Migration(migrations.Migration):
    dependencies = [
        ("ds01portal", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(seed_limits, migrations.RunPython.noop),
        migrations.RunPython(create_cache_table, migrations.RunPython.noop),
    ]
