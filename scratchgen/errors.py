"""What an error says to a user."""

TERSE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, UnicodeError)  # 'x', of a KeyError


def sentence(error: BaseException) -> str:
    """In one line: of the system's own errors the file first, and the type where the text alone says too little."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    said = " ".join(str(error).splitlines())
    if isinstance(error, MemoryError):
        return said or "out of memory"
    return f"{type(error).__name__}: {said}".removesuffix(": ") if isinstance(error, TERSE) or not said else said
