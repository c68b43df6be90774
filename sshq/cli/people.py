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
    import pwd

    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
