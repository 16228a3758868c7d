"""The signs of relaxed JSON, as patterns: every repetition is bounded or possessive, so that matching is linear."""

from __future__ import annotations

import re

__all__ = [
    "AFTER_ITEM",
    "AFTER_KEY",
    "AFTER_TUPLE_ITEM",
    "AFTER_VALUE",
    "BARE",
    "BARE_KEY",
    "BARE_LINE",
    "BARE_TAIL",
    "BLANK",
    "BODIES",
    "CALL",
    "CLOSERS",
    "CLOSING_RUN",
    "COLON",
    "COLON_BELONGS",
    "COMMA_BEFORE_QUOTE",
    "COMMENT",
    "CONTROL",
    "CUT_ESCAPE",
    "ELIDES",
    "ELLIPSIS",
    "ENDS_TEXT",
    "ENDS_WORD",
    "GAP",
    "GLUED",
    "GOES_ON",
    "GROUPED",
    "KEY_AT_QUOTE",
    "KEY_FOLLOWS",
    "MORE_MEMBERS",
    "NOT_BLANK",
    "NOT_IN_KEY",
    "NO_COLON",
    "OPENERS",
    "PREFIX",
    "QUOTES",
    "SEPARATORS",
    "SPACE",
    "TEXT_LIKE",
    "TIMESTAMP",
    "UNCLOSED_KEY",
    "UNOPENED_KEY",
]

BLANK = r"[\s\ufeff\u200b-\u200d\u2060]"
COMMENT = r"//[^\n]*|/\*(?:[^*]|\*(?!/)){0,2000}+\*/"
# A hash begins a comment only if a blank follows: `#fff` is a colour.
SPACE = re.compile(rf"(?:{BLANK}++|{COMMENT}|\#(?=[\s!\#]|\Z)[^\n]*)*+")
ELLIPSIS = re.compile(r"\.\.\.+|…")
COLON = re.compile(r"=>|:=|[:=：]")
BARE_KEY = re.compile(r"[\w$@.\-+/]++(?: [\w$@.\-+/]++)*+(?=\s*(?:[:：]|=>|=(?!=)))")
BARE = re.compile(r"""[^\s,;，；:\[\]{}()"'`“”‘’][^\s,;，；\[\]{}()"'`“”]*+""")
UNCLOSED_KEY = re.compile(r"[\"'][\w$][\w$ \-]{0,60}(?=:\s*[-\d\"'{\[tfn])")
UNOPENED_KEY = re.compile(r"([\w$][\w$ \-]{0,60})[\"'](?=\s*:)")
# A quote that opens a key, and so cannot be the closing one of the value before it.
KEY_AT_QUOTE = re.compile(r"([\"'])[\w$][\w$ \-]{0,60}\1\s*:")
COMMA_BEFORE_QUOTE = re.compile(r",\s*\Z")
CLOSING_RUN = "}] \n\r\t`;"
BARE_LINE = re.compile(r"[^,;\]}\n\"]{0,300}+")
PREFIX = re.compile(r"[rRuU](?=[\"'])|[bB](?=[\"'])")
SEPARATORS = ",;，；"
CLOSERS = {"}": "object", "]": "array", ")": "array", "｝": "object", "］": "array"}
OPENERS = {"{": "object", "[": "array", "(": "array", "｛": "object", "［": "array"}
QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "“": "”",
    "‘": "’",
    "„": "“",
    "«": "»",
    "”": "”",
    "’": "’",
}
MORE_MEMBERS = re.compile(r"\s*,\s*[\"'][^\"'\n]{1,80}[\"']\s*:")
"""Members that go on behind the bracket that should have been the last."""
KEY_FOLLOWS = re.compile(r"[\"'“‘][^\"'\n]{0,80}[\"'”’]\s*[:：]|[\w$-]{1,80}\s*[:：](?!//)")
# What may follow the quote that really ends a string; a quote followed by anything else stands in the text.
AFTER_KEY = re.compile(rf"{BLANK}*+(?:[:：]|=>|=|\Z)")
AFTER_VALUE = re.compile(
    rf"{BLANK}*+(?:\Z|[,;，；]{BLANK}*+(?:\Z|[,\"'“‘`}}\]]|//|/\*|\#|\.\.\.|[\w$-]+\s*[:：])"
    rf"|[}}\]｝］]|//|/\*|\#)"
)
_ITEM_ENDS = (
    rf"{BLANK}*+(?:\Z|[,;，；]{BLANK}*+(?:\Z|[,\"'“‘`{{\[}}\](]|//|/\*|\#|\.\.\.|…|[-+\d]|"
    rf"(?:true|false|null|None|True|False)\b)|[}}\]｝］]|//|/\*|\#"
)
AFTER_ITEM = re.compile(rf"{_ITEM_ENDS})")
# Only here: elsewhere a quote before a parenthesis stands in the text, as in "print("hi")".
AFTER_TUPLE_ITEM = re.compile(rf"{_ITEM_ENDS}|{BLANK}*+\))")
ENDS_WORD = re.compile(r"[ \t]*(?:[,;}\]\)，；｝］\n\r]|\Z|//|/\*|\#\s)")
TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\d \d{1,2}:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
    r"(?=\s*(?:[,}\])]|\Z)|[ \t]*\n)"
)
GROUPED = re.compile(
    r"[$€£¥]?[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?=\s*(?:[,}\n]|\Z))(?!,?\s*[\d]+\s*:)"
)
CALL = re.compile(
    r"[A-Za-z_][\w.]{0,80}\(\s*(?:(\"[^\"\\\n]{0,300}\"|'[^'\\\n]{0,300}')|[^()\"'{}\n]{0,200})\s*\)"
)
GLUED = re.compile(
    r"(?:-?\d+)?(?:true|false|null|None|True|False)[\w\-+.]|-?\d+(?:true|false|null|None|True|False)\Z"
)
# A comment that ends like a string may be a string whose first quote is missing.
TEXT_LIKE = re.compile(r"(?://|\#)[^\"\n]*\",?[ \t]*$", re.MULTILINE)
# A comment that says that something was left out.
ELIDES = re.compile(
    r"\.\.\.|…|\b(?:\d+|many|several|some) (?:more|others?)\b|\b(?:omitted|truncated|elided|snip)\b",
    re.I,
)
COLON_BELONGS = re.compile(r"\A\d{1,2}:\d\d|T\d\d:|\w://|\A[a-z]+:[^\d]")
GOES_ON = re.compile(r"\s*(?:,\s*[\"'{\[\w]|[}\]])")
NOT_IN_KEY = re.compile(r"[,:{}\[\]\n]")
NO_COLON = re.compile(
    rf"{BLANK}*+[,}}]|{BLANK}++(?:[-\d{{\[]|\"[^\"\n]{{0,80}}\"\s*[,}}]|(?:true|false|null)\b)"
)
NOT_BLANK = re.compile(rf"(?!{BLANK}).", re.DOTALL)
ENDS_TEXT = re.compile(r"\s*(?:[,;}\]]|\Z|//|#)")
# An escape in which a string breaks off, with the first half of a surrogate pair if that is all there is.
CUT_ESCAPE = re.compile(
    r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3}|x[0-9a-fA-F]?"
    r"|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?\Z"
)
GAP = re.compile(rf"{BLANK}*+")
CONTROL = re.compile(r"[\x00-\x1f]")
BARE_TAIL = re.compile(r"[\w$-]*+\Z")
BODIES: dict[str, re.Pattern[str]] = {
    closer: re.compile(rf"[^\\{closer}]*+(?:\\.[^\\{closer}]*+)*+{closer}", re.DOTALL)
    for closer in {*QUOTES.values()}
}
