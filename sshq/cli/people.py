"""Users as this machine knows them."""

import os


def lookup_uid(name: str) -> int | None:
    """Return a user's number, None if there is no such user."""
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def name_me() -> str:
    """Return the caller's user name, by the kernel's number and not by $USER."""
    return name_of(os.getuid())


def name_of(uid: object) -> str:
    """Return the name of a user's number, the number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name if isinstance(uid, int) else str(uid)
    except KeyError:
        return str(uid)
