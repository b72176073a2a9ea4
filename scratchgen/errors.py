"""What an error says to a user."""

from scratchgen.files import printable

TERSE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, UnicodeError)  # 'x', of a KeyError


def words(error: BaseException) -> str:
    """Of the system's own errors the file first; the type where the text alone would say too little; and nothing that
    a terminal would obey, of names and files that somebody else made."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{printable(str(error.filename))}: {error.strerror}"
    said = "\n".join(map(printable, str(error).split("\n")))
    if isinstance(error, MemoryError):
        return said or "out of memory"
    return f"{type(error).__name__}: {said}".removesuffix(": ") if isinstance(error, TERSE) or not said else said


def sentence(error: BaseException) -> str:
    """The same in one line."""
    return " ".join(words(error).splitlines())
