"""Text for people: labels that a terminal may print, and times."""


def printable(label: str) -> str:
    """A label with line breaks and control characters (a terminal would obey them) replaced by '?'."""
    return "".join(c if c.isprintable() else "?" for c in label)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that they fill."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{seconds // 60} min {seconds % 60} s"
    hours = seconds // 3600
    return f"{hours} h {seconds // 60 % 60} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"
