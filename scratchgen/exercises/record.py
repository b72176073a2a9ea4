"""What a student has done: a small file beside the user's other data."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scratchgen.errors import sentence
from scratchgen.files import atomic_write, make_folder, read_json
from scratchgen.paths import user_data_folder
from scratchgen.schema import check, whole

KEPT = (OSError, ValueError, RuntimeError)  # of a folder that cannot be written, or is not known


@dataclass
class Record:
    """The exercises done, each with its day, those of them whose last check said wrong, and how many hints of each
    were shown; `notes` are sentences on what is wrong with the file."""

    done: dict[str, str] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read() -> Record:
    """The record; an empty one where there is none, or where it is damaged."""
    record = Record()
    try:
        content = read_json(_file())
    except FileNotFoundError:
        return record
    except ValueError as error:
        return Record(notes=[f"{error}; what is done is recorded anew"])
    except KEPT as error:
        return Record(notes=[f"what is done cannot be read: {sentence(error)}"])
    try:
        check(content, {}, ("done", "hints"))
        for part in ("done", "hints"):
            check(content[part], {})
        check(content["hints"], dict.fromkeys(content["hints"], whole(0)))
        wrong = content.get("wrong", [])  # which older records lack
        if not (isinstance(wrong, list) and all(isinstance(name, str) for name in wrong)):
            raise ValueError("wrong is no list of names")
    except ValueError as error:
        return Record(notes=[f"{_file()} is damaged: {error}; what is done is recorded anew"])
    record.done = {name: str(day) for name, day in content["done"].items()}
    record.hints = content["hints"]
    record.wrong = wrong
    return record


def add_done(name: str) -> Record:
    """Record that an exercise is done; returns what is recorded."""
    record = read()
    record.done.setdefault(name, time.strftime("%Y-%m-%d"))
    record.wrong = [other for other in record.wrong if other != name]
    return _written(record)


def add_wrong(name: str) -> Record:
    """Record that the last check of an exercise said wrong, where it had been done; returns what is recorded."""
    record = read()
    if name not in record.done or name in record.wrong:
        return record
    record.wrong.append(name)
    return _written(record)


def add_hint(name: str, number: int) -> Record:
    """Record that so many hints were shown."""
    record = read()
    record.hints[name] = number
    return _written(record)


def _file() -> Path:
    return user_data_folder("exercises") / "record.json"


def _written(record: Record) -> Record:
    content = {key: value for key, value in asdict(record).items() if key != "notes"}
    try:
        make_folder(_file().parent)
        with atomic_write(_file()) as stream:
            stream.write(json.dumps(content, indent=1).encode())
    except KEPT as error:
        record.notes = [f"what is done cannot be recorded: {sentence(error)}"]
    return record
