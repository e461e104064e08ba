"""Results as JSON lines: one for each example under each configuration.

A file is only ever appended to, a whole line at a time. A run that was ended
in the middle of a line leaves a damaged one, which is skipped when read and
never joined with what follows.
"""
import json
import os

# What makes two lines results of the same question. A later line replaces an
# earlier one with the same key.
KEY = ("model", "suite", "task", "length", "index", "source", "kv",
       "max_tokens")


def key_of(line):
    return json.dumps([line.get(field) for field in KEY], sort_keys=True)


def read(path):
    """The lines of a file, the last one of each key, in order of first
    appearance; none where there is no file."""
    lines = {}
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if isinstance(line, dict):
                lines[key_of(line)] = line
    return list(lines.values())


class Results:
    """What is there already, and where new lines go."""

    def __init__(self, path):
        self._path = path
        self._known = {key_of(line): line for line in read(path)}
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self._repair_end()

    def __len__(self):
        return len(self._known)

    def get(self, line):
        """The result with the key of `line`, or None."""
        return self._known.get(key_of(line))

    def add(self, line):
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, sort_keys=True) + "\n")
        self._known[key_of(line)] = line

    def _repair_end(self):
        if not os.path.exists(self._path) or not os.path.getsize(self._path):
            return
        with open(self._path, "rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
