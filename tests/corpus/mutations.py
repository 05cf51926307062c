"""Texts that are almost statements: pieces of the corpus, cut and mixed."""

from hypothesis import strategies as st

from tests.corpus import entries

_TEXTS = [operation.sql for entry in entries() for operation in entry.operations]
_PIECES = (
    *(
        "'",
        '"',
        "$$",
        "$a$",
        "\\",
        "--",
        "/*",
        "*/",
        ";",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "*",
        "::",
        "$1",
        "$0",
        "E'",
        "U&'",
    ),
    *("\x00", "\x1a", "\u00a0", "\u2028", "\ufeff", "é" * 40, "(" * 60, "- " * 60, "x" * 70),
    *(" COMMIT ", " DELETE FROM doctors ", " pg_sleep(9) ", " national_id ", " p.* ", " RETURNING * ", " LIMIT 1 "),
    *(" WHERE ", " FROM ", " AS ", " WITH ", " UNION ", " NOT ", " OR true ", " NULL ", " ON CONFLICT ", " LATERAL "),
)


@st.composite
def mutated_statements(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(_TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 20)))
        other = draw(st.sampled_from(_TEXTS))
        piece = draw(st.sampled_from((*_PIECES, "", text[start:end], other, other[: len(other) // 2])))
        text = text[:start] + piece + text[draw(st.sampled_from((start, end))) :]
    return text
