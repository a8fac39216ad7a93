"""Text that users wrote, as LaTeX that prints it: names of runs and settings may hold any character."""

from __future__ import annotations

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": r"{-}",  # two of them are not a dash
    "–": r"--",
    "—": r"---",
    "±": r"\ensuremath{\pm}",
    "†": r"\dag{}",
    "*": r"\textasteriskcentered{}",
    "→": r"\ensuremath{\rightarrow}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "×": r"\ensuremath{\times}",
    "\n": " ",
    "\t": " ",
}


def escape(text: str) -> str:
    r"""`text` for LaTeX with T1 fonts.

    A character that these fonts lack is printed as its code, since LaTeX would stop at it.

    >>> escape("a_b & 50%")
    'a\\_b \\& 50\\%'
    >>> escape("日")
    '\\texttt{U+65E5}'
    """
    return "".join(_SPECIAL.get(letter) or _plain(letter) for letter in text)


def _plain(letter: str) -> str:
    # T1 has the letters of Latin-1 and Latin Extended-A; the signs of Latin-1 are in \usepackage{textcomp}.
    if letter.isascii() or "\u00a1" <= letter <= "\u00ff" or (letter.isalpha() and letter <= "\u017e"):
        return letter if letter.isprintable() else ""
    return rf"\texttt{{U+{ord(letter):04X}}}"
