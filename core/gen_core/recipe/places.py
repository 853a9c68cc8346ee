"""Where each key of a TOML text stands: a light scan, made only when a mistake must be shown."""

from __future__ import annotations

import re

Path = tuple[str, ...]

TOKENS = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.S)
BARE = re.compile(r"[A-Za-z0-9_-]+")
SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
END = re.compile(r"[,\]}#\n]")  # of a number, a date, true or false
BLANK = re.compile(r"[ \t]*")


def key_lines(text: str) -> dict[Path, int]:
    """Key path -> line (from 1) of every key and table header of a TOML text that parses.

    The first mention of a path counts; keys of inline tables are found too, array elements are not.
    """
    return _Scan(text).run()


def split_key(text: str) -> Path:
    """A dotted key as its parts: `a."b.c".d` -> ("a", "b.c", "d"). Raises: ValueError."""
    scan = _Scan(text)
    path = scan.key()
    scan.blank()
    if scan.at < len(text):
        raise ValueError(f"'{text}' is not a dotted key")
    return path


class _Scan:
    """A cursor over the text; the grammar is trusted, because tomli has accepted it."""

    def __init__(self, text: str):
        self.text, self.at = text, 0
        self.counted, self.line = 0, 1
        self.found: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        while self.skip() < len(self.text):
            start = self.at
            if self.text[self.at] == "[":
                self.at += 2 if self.text.startswith("[[", self.at) else 1
                table = self.key()
                self.note(table, start)
                self.at = self.end_of_line()
            else:
                self.pair(table)
        return self.found

    def pair(self, table: Path) -> None:
        start = self.at
        path = table + self.key()
        self.note(path, start)
        self.at = self.text.index("=", self.at) + 1
        self.value(path)

    def key(self) -> Path:
        parts = []
        while True:
            self.blank()
            if match := BARE.match(self.text, self.at):
                parts.append(match[0])
            elif match := TOKENS.match(self.text, self.at):
                parts.append(_unquoted(match[0]))
            else:
                raise ValueError(f"'{self.text}' is not a dotted key")
            self.at = match.end()
            self.blank()
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def value(self, path: Path) -> None:
        self.skip()
        char = self.text[self.at : self.at + 1]
        if match := TOKENS.match(self.text, self.at):
            self.at = match.end()
        elif char == "[":
            self.at += 1
            while self.skip() < len(self.text) and self.text[self.at] != "]":
                if self.text[self.at] == ",":
                    self.at += 1
                else:
                    self.value((*path, "*"))
            self.at += 1
        elif char == "{":
            self.at += 1
            while self.skip() < len(self.text) and self.text[self.at] != "}":
                if self.text[self.at] == ",":
                    self.at += 1
                else:
                    self.pair(path)
            self.at += 1
        else:
            end = END.search(self.text, self.at)
            self.at = end.start() if end else len(self.text)

    def note(self, path: Path, at: int) -> None:
        self.line += self.text.count("\n", self.counted, at)  # the cursor only moves forward
        self.counted, line = at, self.line
        for n in range(1, len(path) + 1):
            self.found.setdefault(path[:n], line)

    def skip(self) -> int:
        self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.at

    def blank(self) -> None:
        self.at = BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]

    def end_of_line(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end


def _unquoted(token: str) -> str:
    import tomli

    return tomli.loads(f"k = {token}")["k"]
