"""Keeping secrets out of what is written and shown; errors of libraries quote addresses."""

import os
import re

SECRET = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET|CREDENTIALS?)$", re.IGNORECASE)
"""How the names of environment variables end that hold secrets."""
SHORTEST = 4
"""Shorter values are not secrets, and would blot out words."""
MARK = "***"


def redacted(text: str) -> str:
    """`text` without the secrets of this process's environment, and without those in addresses."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, MARK)
    return re.sub(r"(?<=://)[^/\s@'\"]+@", f"{MARK}@", text)
