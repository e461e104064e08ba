"""A part of a page that a program writes, between two markers."""
import sys


class MarkedPage:

    def __init__(self, path, program):
        self.path = path
        self.begin = f"<!-- {program}: begin -->"
        self.end = f"<!-- {program}: end -->"
        with open(path, encoding="utf-8") as page:
            text = page.read()
        self.before, begin, rest = text.partition(self.begin)
        self.between, end, self.after = rest.partition(self.end)
        if not begin or not end:
            sys.exit(f"the page has no {self.begin} ... {self.end}")

    def write(self, between):
        with open(self.path, "w", encoding="utf-8") as page:
            page.write(f"{self.before}{self.begin}\n{between}\n{self.end}"
                       f"{self.after}")
