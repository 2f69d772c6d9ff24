"""Whether a guest hangs, pure. For policy only; nothing of it touches the lease.

The invariant: **no guest hangs for want of one answer alone.** Its agent is silent while it is upgraded, while the
guest reboots or shuts down, and under load; that libvirt could not be asked says nothing of the guest at all. So a
second sign is needed, which has nothing to do with the first:

- its virtual CPUs have not run for a single moment in all that time. A guest that lives, and be it idle, has timers
  that wake it; one that boots, or shuts down, computes;
- or all of several ways to ask are silent, for as long as a boot may take. A guest whose kernel spins is so, but so is
  one that shuts down slowly, its network gone already.

A guest that never answered since it began, or began anew, may have no agent, or a firewall: it is told, and no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum


class Word(StrEnum):
    """What came of asking the guest in one way.

    NOT_ASKED: it was not asked, for a reason that is not the guest's; that counts for nothing.
    """

    ANSWERED = "answered"
    SILENT = "silent"
    NOT_ASKED = "not asked"


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came of it, and why it was no answer."""

    word: Word
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Patience:
    """When silence counts.

    :param failures: so many rounds in a row.
    :param boot_s: so long a boot may take.
    """

    failures: int
    boot_s: float


@dataclasses.dataclass(frozen=True)
class Health:
    """What is known of the guest.

    :param answered: whether it has answered since it began, or began anew.
    :param failures: rounds of questions in a row without any answer.
    :param still: the last of them in a row in which no virtual CPU has run.
    :param silent_s: for how long it has not answered.
    :param deaf_s: for how long several ways to ask were all silent.
    :param absent: it has answered, does not for longer than a boot may take, and lives.
    """

    answered: bool = False
    failures: int = 0
    still: int = 0
    silent_s: float = 0.0
    deaf_s: float = 0.0
    absent: bool = False
    hung: bool = False
    why: str = ""


def judge(
    before: Health,
    replies: Mapping[str, Reply],
    patience: Patience,
    *,
    ran: bool | None,
    passed_s: float,
    overdue: bool,
) -> Health:
    """The health after one more round of questions.

    :param replies: by the way that was asked; any answer is an answer.
    :param ran: whether a virtual CPU has run since the round before; None: not known.
    :param passed_s: how long ago that was.
    :param overdue: whether a guest that never answered should have by now.
    """
    words = [reply.word for reply in replies.values()]
    why = "; ".join(f"{way}: {reply.why}" for way, reply in replies.items() if reply.why)
    if Word.ANSWERED in words or not words:
        return Health(answered=True, why=why)
    if Word.SILENT not in words:
        return dataclasses.replace(before, why=f"it could not be asked: {why}")
    if not before.answered:
        return Health(failures=before.failures + 1, why=f"it has never answered: {why}" if overdue else "")
    still = before.still + 1 if ran is False else 0
    silent_s = before.silent_s + passed_s
    deaf_s = before.deaf_s + passed_s if words.count(Word.SILENT) > 1 else 0.0
    count, stands_still = before.failures + 1, still >= patience.failures
    is_deaf = deaf_s >= max(patience.boot_s, passed_s) and count >= patience.failures and ran is not None
    if stands_still:
        why += "; its virtual CPUs stand still"
    elif is_deaf:
        why += f"; all of it for {deaf_s:.0f} s"
    return Health(
        answered=True,
        failures=count,
        still=still,
        silent_s=silent_s,
        deaf_s=deaf_s,
        absent=silent_s >= patience.boot_s and not (stands_still or is_deaf),
        hung=stands_still or is_deaf,
        why=why,
    )
