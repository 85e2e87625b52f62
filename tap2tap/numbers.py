"""Reading whole numbers that people type, or that other programs leave us."""


def whole_number(text: str, most: int) -> int | None:
    """Read decimal digits, no more of them than `most` has; None for anything else and for what exceeds `most`.

    The digits are counted before they are converted, for int() raises ValueError for a few thousand of them.
    """
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most:
        return int(text)
    return None
