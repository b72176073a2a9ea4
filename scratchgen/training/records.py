"""The records of a run, as metrics.jsonl has them: what can be read of it, line by line."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from scratchgen.files import from_json
from scratchgen.schema import Kind, check, real, text, whole

LONGEST = 1 << 20  # bytes of a record that is read
NUMBER, COUNT = real(lambda x: True, "a number"), whole(0, most=2**63 - 1)


def _holds_numbers(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(map(_holds_numbers, value.values() if isinstance(value, dict) else value))
    return value is None or NUMBER.fits(value)


NUMBERS = Kind("numbers", _holds_numbers)  # a number, null in place of one, or lists and objects of these
RECORD = {"kind": text, "step": COUNT, "epoch": real(lambda x: x >= 0, "a number of at least 0")}


class Records(list[dict[str, Any]]):
    """What metrics.jsonl says, line by line, but for the lines that cannot be read."""

    unreadable = 0  # how many
    end_unreadable = False  # one of them comes after the last record of a step

    @property
    def step(self) -> int:
        """After how many steps the last was written."""
        return max((r.get("step", 0) for r in self), default=0)

    @property
    def epochs(self) -> int:
        """How many there have been."""
        return max((r["epoch"] for r in self if r["kind"] == "epoch"), default=0)

    @property
    def note(self) -> str:
        """On what is left out."""
        return f"{self.unreadable:,} line{'s' * (self.unreadable > 1)} cannot be read and are left out"


def read_records(path: Path) -> Records:
    """The records in a file; none where there is no such file."""
    records = Records()
    if not path.is_file():
        return records
    with open(path, "rb") as stream:
        for line in _lines(stream):
            if not line.endswith(b"\n"):  # cut by a crash
                break
            try:
                record = from_json(line)
                _check_record(record)
            except ValueError:
                records.unreadable += 1
                records.end_unreadable = True
            else:
                records.append(record)
                records.end_unreadable &= "step" not in record
    return records


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a binary file; of one that is longer than any record no more than that."""
    while line := stream.readline(LONGEST):
        part = line
        while part and not part.endswith(b"\n"):
            part = stream.readline(LONGEST)
            if part.endswith(b"\n"):
                line = b"\n"
        yield line


def _check_record(record: Any) -> None:
    """ValueError unless it is a record, and one of training has numbers that curves can be drawn of."""
    check(record, RECORD, required=("kind",))
    if record["kind"] in ("steps", "epoch"):
        numbers = dict.fromkeys(record.keys() - RECORD.keys(), NUMBERS)
        check(record, RECORD | numbers, required=("step", "epoch"))
