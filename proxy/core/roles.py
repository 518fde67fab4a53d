"""Who may do what on the admin API: four roles, each holding the rights of those below it."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Role(IntEnum):
    """Ordered, so a right is `principal.role >= Role.OPERATOR` (contract, Admin API)."""

    VIEWER = 1  # reads
    OPERATOR = 2  # breakers and flags
    COMMANDER = 3  # the kill switch
    ADMIN = 4

    @property
    def label(self) -> str:
        """The name as files, the API and the command line write it: `viewer` … `admin`."""
        return self.name.lower()

    @classmethod
    def named(cls, label: str) -> "Role":
        """The role behind a label; ValueError names the ones there are."""
        for role in cls:
            if role.label == label:
                return role
        raise ValueError(f"unknown role {label!r}: one of {', '.join(role.label for role in cls)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever a token stands for."""

    name: str
    role: Role


class Cause(StrEnum):
    """Why credentials were not enough. Whoever asks hears no more than that they were not; the log does."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    INVALID = "invalid"  # a JWT that does not stand up; `Rejected.detail` says why
    NO_ROLE = "no_role"  # somebody, but no claim of theirs maps to a role here


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Nobody, and why. `name` is known when the secret was right, or vouched for by an issuer."""

    cause: Cause
    name: str = ""
    detail: str = ""
