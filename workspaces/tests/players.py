"""What the processes of the race and crash tests do. Run as `python -m … VERB ARGUMENTS`.

Not a test: a player asks for random verbs on its own containers, carries them out on a fake
engine of its own, and is made to crash in random phases. The database is shared and real.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import sys
from collections import Counter

import django

django.setup()

from django.contrib.auth.models import Group  # noqa: E402
from django.utils import timezone  # noqa: E402

from catalog.models import Image  # noqa: E402
from ds01portal.engine import set_engine  # noqa: E402
from ds01portal.engine.fake import FakeEngine  # noqa: E402
from ds01portal.exceptions import EngineError, RefusedError  # noqa: E402
from ds01portal.models import Event, Operation, Person, Quota  # noqa: E402
from ds01portal.models.operation import OperationQuerySet  # noqa: E402
from ds01portal.services import operations  # noqa: E402
from workspaces.models import Assignment, Container, Device  # noqa: E402
from workspaces.services import (  # noqa: E402
    assignments,
    containers,
    devices,
    launch_images,
    machine,
    requests,
)
from workspaces.services import carrying as workers  # noqa: E402
from workspaces.services.worker import Worker  # noqa: E402

IMAGE = "ds01/demo-python:1"


class Crash(BaseException):
    """The worker dies here."""


def prepare(people: int) -> dict[str, object]:
    """Make devices, the image, and one researcher per player."""
    devices.sync_devices()
    machine.refresh_machine()
    Image.objects.create(
        kind="local", framework="Python", version="3", reference=IMAGE, engine_image_id="sha256:1"
    )
    group = Group.objects.get(name="researcher")
    if os.environ.get("NO_HOLD"):
        # Devices change hands at every stop and start.
        Quota.objects.filter(group=group).update(gpu_hold=0)
    for number in range(people):
        uid = 300_000 + number
        person = Person.objects.create(
            username=f"player{number}", uid=uid, gid=uid, linux_name=f"player{number}"
        )
        person.groups.add(group)
    return {"devices": Device.objects.offered().count()}


def play(number: int, steps: int, seed: int) -> dict[str, object]:
    """Play random steps, then clean up; return the counts."""
    dice = random.Random(seed * 1000 + number)
    me = Person.objects.get(username=f"player{number}")
    engine = FakeEngine()
    engine.add_image(IMAGE, files={"/etc/passwd": b"root:x:0:0::/root:/bin/sh\n"})
    set_engine(engine)
    _claim_only_own(me)
    counts: Counter[str] = Counter()
    for step in range(steps):
        _step(dice, me, engine, step, counts)
    _clean_up(me, engine, counts)
    return dict(counts)


def _claim_only_own(me: Person) -> None:
    """Each player has its own engine, so it may carry out only what lives there."""
    due = OperationQuerySet.due
    OperationQuerySet.due = lambda self, now: due(self, now).filter(owner=me)  # type: ignore[method-assign]


def _step(
    dice: random.Random, me: Person, engine: FakeEngine, step: int, counts: Counter[str]
) -> None:
    mine = list(Container.objects.live().filter(owner=me))
    verb = dice.choices(
        ["launch", "stop", "start", "remove", "crash", "fail", "restart"], [6, 3, 3, 7, 4, 2, 1]
    )[0]
    try:
        if verb == "launch" or not mine:
            _ask(me, dice, step)
            counts["launched"] += 1
        elif verb in ("crash", "fail"):
            _ask(me, dice, step)
            counts["launched"] += 1
            if verb == "fail":
                engine.fail_next(
                    dice.choice(["start_container", "create_container", "tag_image"]),
                    EngineError("planned"),
                )
            else:
                _crash_once(dice, counts)
        else:
            containers.VERBS[verb](container=dice.choice(mine), actor=me)
        counts[verb] += 1
    except RefusedError as refusal:
        counts[f"refused {refusal.code}"] += 1
    workers.carry_out_due(worker=f"player{me.pk}")
    counts["double holds"] += len(assignments.find_double_holds())


def _ask(me: Person, dice: random.Random, step: int) -> None:
    request = requests.LaunchRequest(
        owner=me,
        name=f"c{step}",
        devices=dice.choice([0, 1, 1, 2]),
        **launch_images.choose_image(person=me, reference=IMAGE),
    )
    containers.launch_container(request=request, actor=me)


def _crash_once(dice: random.Random, counts: Counter[str]) -> None:
    """Die in a random phase; the lease runs out, and somebody goes on."""
    target = dice.choice(["find", "pull", "prepare", "create", "start", "verify"])
    enter = operations.Work.enter_phase

    def die(self: operations.Work, phase: str, message: str = "") -> None:
        enter(self, phase, message)
        if phase == target:
            raise Crash

    operations.Work.enter_phase = die  # type: ignore[method-assign]
    try:
        workers.carry_out_due(worker="dying")
    except Crash:
        counts["crashes"] += 1
    finally:
        operations.Work.enter_phase = enter  # type: ignore[method-assign]
    past = timezone.now() - dt.timedelta(seconds=1)
    Operation.objects.filter(state="running", worker="dying").update(lease_until=past)


def _clean_up(me: Person, engine: FakeEngine, counts: Counter[str]) -> None:
    workers.carry_out_due(worker=f"player{me.pk}")
    for container in Container.objects.live().filter(owner=me):
        containers.remove_container(container=container, actor=me)
    workers.carry_out_due(worker=f"player{me.pk}")
    counts["containers left on the engine"] = len(engine.list_containers())


def count_left() -> dict[str, object]:
    """Return what must be nothing at the end."""
    return {
        "held": Assignment.objects.live().count(),
        "double": len(assignments.find_double_holds()),
        "operations": Operation.objects.live().count(),
        "containers": Container.objects.live().count(),
        "assignments": Assignment.objects.count(),
    }


def claim_all(name: str) -> dict[str, object]:
    """Claim and end operations until none is left; return how many were this process's."""
    count = 0
    while operation := operations.claim_operation(worker=name):
        operations.Work(operation).finish()
        count += 1
    return {"claimed": count}


def ask_for_pulls(count: int) -> dict[str, object]:
    """Queue operations for the claim race."""
    for number in range(count):
        operations.request_operation(
            kind="pull",
            subject_kind="image",
            subject_id=str(number),
            owner=None,
            actor=None,
            params={},
        )
    return {"queued": Operation.objects.live().count()}


def ask_for_one(name: str, devices_asked: int) -> dict[str, object]:
    """Ask for a container on the real engine, as player0."""
    me = Person.objects.get(username=os.environ.get("PLAYER", "player0"))
    request = requests.LaunchRequest(
        owner=me,
        name=name,
        devices=devices_asked,
        **launch_images.choose_image(person=me, reference=IMAGE),
    )
    return {"id": str(containers.launch_container(request=request, actor=me).pk)}


def ask_verb(name: str, verb: str) -> dict[str, object]:
    """Ask for a verb on a container of player0."""
    me = Person.objects.get(username=os.environ.get("PLAYER", "player0"))
    containers.VERBS[verb](container=containers.find_container(person=me, name=name), actor=me)
    return {}


def die_in(phase: str) -> dict[str, object]:
    """Carry out what is due and kill this very process with -9 when the phase is entered."""
    enter = operations.Work.enter_phase
    undo = operations.Work.begin_undo

    def die(self: operations.Work, entered: str, message: str = "") -> None:
        enter(self, entered, message)
        if entered == phase:
            os.kill(os.getpid(), signal.SIGKILL)

    def die_undoing(self: operations.Work, error: dict[str, object]) -> None:
        undo(self, error)
        if phase == "undo":
            os.kill(os.getpid(), signal.SIGKILL)

    operations.Work.enter_phase = die  # type: ignore[method-assign]
    operations.Work.begin_undo = die_undoing  # type: ignore[method-assign]
    workers.carry_out_due()
    return {"alive": True}


def break_image() -> dict[str, object]:
    """Let the next launch fail: the image it wants cannot be had."""
    Container.objects.filter(state="launching").update(image_reference="127.0.0.1:9/none:1")
    return {}


def go_on() -> dict[str, object]:
    """Be the worker that comes after the dead one."""
    workers.release_dead_workers()
    workers.carry_out_due()
    container = Container.objects.latest("created_at")
    return {
        "state": container.state,
        "operation": Operation.objects.latest("created_at").state,
        "held": Assignment.objects.live().count(),
        "error": container.error.get("code", ""),
    }


def ask_for_many(people: int, each: int) -> dict[str, object]:
    """Ask for containers of several people; the first of each has a GPU."""
    for person in Person.objects.filter(username__startswith="player").order_by("pk")[:people]:
        for number in range(each):
            request = requests.LaunchRequest(
                owner=person,
                name=f"c{number}",
                devices=1 if number == 0 else 0,
                cpus=0.1,
                memory=128 * 1024**2,
                **launch_images.choose_image(person=person, reference=IMAGE),
            )
            containers.launch_container(request=request, actor=person)
    return {}


def look() -> dict[str, object]:
    """Return states, holds and the machine as the pages would show them."""
    row = machine.Machine.current()
    states = Counter(Container.objects.live().values_list("state", flat=True))
    return {
        "states": dict(states),
        "held": Assignment.objects.live().count(),
        "holding": Assignment.objects.live().filter(hold_until__isnull=False).count(),
        "reachable": row.reachable,
        "unreachable_since": str(row.unreachable_since or ""),
        "reasons": dict(Counter(Container.objects.values_list("stop_reason", flat=True))),
        "history": Event.objects.filter(reason__contains="Docker Engine was stopped")
        .values("subject_id")
        .distinct()
        .count(),
        "live operations": Operation.objects.live().count(),
        "failed operations": Operation.objects.filter(state="failed").count(),
    }


def stop_often(times: int) -> dict[str, object]:
    """Let a signal stop a waiting worker again and again, a little later each time."""
    for number in range(times):
        worker = Worker()
        signal.signal(signal.SIGALRM, lambda *_, worker=worker: worker.stop())
        signal.setitimer(signal.ITIMER_REAL, 0.002 + number * 0.0002)
        worker.claim_until_stopped()
    return {"stopped": times}


VERBS = {
    "stop_often": lambda times: stop_often(int(times)),
    "many": lambda people, each: ask_for_many(int(people), int(each)),
    "look": look,
    "ask": lambda name, count: ask_for_one(name, int(count)),
    "verb": ask_verb,
    "die": die_in,
    "break": break_image,
    "go_on": go_on,
    "prepare": lambda people: prepare(int(people)),
    "play": lambda number, steps, seed: play(int(number), int(steps), int(seed)),
    "left": count_left,
    "claim": claim_all,
    "queue": lambda count: ask_for_pulls(int(count)),
}

if __name__ == "__main__":
    print(json.dumps(VERBS[sys.argv[1]](*sys.argv[2:])))
