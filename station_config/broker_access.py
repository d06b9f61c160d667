"""Who may do what on the broker, from the topics of the design; written once, for every broker.

user        reads                                        writes
<gateway>   its commits, its commands                    its records, status, results, losses and warnings
cloud       all records, status, results, losses and     all commits and commands, live
            warnings
bench       everything                                   nothing
"""

from __future__ import annotations

from dataclasses import dataclass

CLOUD, BENCH = "cloud", "bench"
_ROOT = "tram/v1"


@dataclass(frozen=True)
class Access:
    """Topic filters a user may read and write."""

    read: tuple[str, ...]
    write: tuple[str, ...]


def access_of(user: str) -> Access:
    """Return the access of a user; every name but "cloud" and "bench" is a gateway's id."""
    if user == CLOUD:
        return Access(
            read=_topics("records/#", "status/#", "results/#", "losses/#", "warnings/#"),
            write=_topics("commits/#", "commands/#", "live/#"),
        )
    if user == BENCH:
        return Access(read=("#", "$SYS/#"), write=())
    return Access(
        read=_topics(f"commits/{user}", f"commands/{user}"),
        write=_topics(f"records/+/{user}/#", f"status/{user}", f"results/{user}", f"losses/{user}", f"warnings/{user}"),
    )


def allows(filters: tuple[str, ...], topic: str) -> bool:
    """Say whether a topic, or a whole subscription, lies within one of the filters."""
    return any(_covers(allowed.split("/"), topic.split("/")) for allowed in filters)


def _covers(allowed: list[str], asked: list[str]) -> bool:
    if allowed[:1] == ["#"]:
        return not (asked and asked[0].startswith("$"))  # "#" alone does not reach into $SYS
    for position, level in enumerate(allowed):
        if level == "#":
            return True  # also the level above it: "a/#" includes "a"
        if position >= len(asked) or asked[position] == "#" or (level != asked[position] and level != "+"):
            return False
    return len(allowed) == len(asked)


def mosquitto_acl(users: tuple[str, ...]) -> str:
    """Return mosquitto's ACL file for these users."""
    lines = []
    for user in users:
        access = access_of(user)
        lines.append(f"user {user}")
        lines += [f"topic read {topic}" for topic in access.read]
        lines += [f"topic write {topic}" for topic in access.write]
        lines.append("")
    return "\n".join(lines)


def _topics(*names: str) -> tuple[str, ...]:
    return tuple(f"{_ROOT}/{name}" for name in names)
