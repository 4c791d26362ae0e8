"""The strings that English tokenising treats as given: contractions, abbreviations, emoticons.

They follow spaCy's English tables (explosion/spaCy, MIT), because the published filter thresholds were set on its
words; here they are generated from a few word lists. Every string maps to its pieces: "don't" to do + n't, "Mr."
to itself. An apostrophe may also be the typographic one.
"""

from itertools import product

import numpy as np

_ABBREVIATIONS = (
    """
Adm. Ak. Ala. Apr. Ariz. Ark. Aug. Bros. Calif. Co. Colo. Conn. Corp. D.C. Dec. Del. Dr. E.G. E.g. Feb. Fla. Ga. Gen.
Gov. I.E. I.e. Ia. Id. Ill. Inc. Ind. Jan. Jr. Jul. Jun. Kan. Kans. Ky. La. Ltd. Mar. Mass. Md. Messrs. Mich. Minn.
Miss. Mo. Mont. Mr. Mrs. Ms. Mt. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Ph.D. Prof.
Rep. Rev. S.C. Sen. Sep. Sept. St. Tenn. Va. Wash. Wis. a.m. co. e.g. i.e. p.m. v.s. vs. ä. ö. ü. and/or w/o C++ — ' ''
ma'am Ma'am o'clock O'clock 'Cause 'cause 'Cos 'cos 'Coz 'coz 'Cuz 'cuz 'bout 'em 'nuff 'll 'd 're 's 'S ‘s ‘S
em nuff ll \\") \\n \\t <space>
""".split()  # noqa: SIM905 - a list of words reads best as text
    + [f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyz"]
)
_EMOTICONS = r"""
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-((
:((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :*
:-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__-
v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3
(^_^) (-_-) (._.) (>_<) (*_*)
""".split()  # noqa: SIM905 - a list of words reads best as text
_CLIPPED = ("doin", "goin", "havin", "lovin", "nothin", "nuthin", "ol", "somethin")
_PRONOUNS = ("i", "you", "he", "she", "it", "we", "they")
_QUESTION_WORDS = ("who", "what", "when", "where", "why", "how", "there", "that", "this", "these", "those")
_MODALS = "ca could do does did had may might must need ought sha should wo would".split()  # noqa: SIM905
_AUXILIARIES = "ai are is was were have has dare".split()  # noqa: SIM905
_UNSPLIT = "Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore".split()  # noqa: SIM905
_GIVEN = """
y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta let|'s Let|'s
c'm|on C'm|on
""".split()  # noqa: SIM905 - a list of words reads best as text


def exceptions() -> dict[str, tuple[str, ...]]:
    """Every exceptional string with the tokens it stands for; the tokens joined give the string."""
    found: list[tuple[str, ...]] = [(whole,) for whole in _ABBREVIATIONS + _EMOTICONS]
    found += [(word + end,) for clipped in _CLIPPED for word in (clipped, clipped.title()) for end in ("", "'")]
    found += [tuple(given.split("|")) for given in _GIVEN]
    found += [(str(hour), half) for hour, half in product(range(1, 13), ("am", "a.m.", "pm", "p.m."))]
    found += list(_contractions())
    table = {"".join(pieces): pieces for pieces in found}
    for word in _UNSPLIT:
        table.pop(word, None)
    for pieces in list(table.values()):
        typographic = tuple(piece.replace("'", "’") for piece in pieces)
        table["".join(typographic)] = typographic
    return table


def _contractions() -> list[tuple[str, ...]]:
    """Pronouns, question words and verbs with their endings, each with and without the apostrophe."""
    endings = [(word, tail) for word in _PRONOUNS for tail in (("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve"))]
    endings += [("i", tail) for tail in (("'m",), ("'m", "a"))]
    endings += [(word, ("'ve",)) for word in ("i", "you", "we", "they")]
    endings += [(word, ("'re",)) for word in ("you", "we", "they")] + [(word, ("'s",)) for word in ("he", "she", "it")]
    for word in _QUESTION_WORDS:
        endings += [(word, tail) for tail in (("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve"))]
        endings += [(word, ("'s",))] if word not in ("these", "those") else []
        endings += [(word, (tail,)) for tail in ("'re", "'ve")] if word not in ("that", "this") else []
    endings += [(word, tail) for word in _MODALS for tail in (("n't",), ("n't", "'ve"))]
    endings += [(word, ("n't",)) for word in _AUXILIARIES]
    endings += [(word, ("'ve",)) for word in ("could", "might", "must", "should", "would")]
    spelt = []
    for word, tail in endings:
        bare = tuple(piece.replace("'", "") for piece in tail)
        spelt += [(start, *form) for start in (word, word.title()) for form in (tail, bare)]
    return spelt


def exception_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The exceptions for the kernel: code points (uint32), starts (int64, m + 1), piece lengths (uint8, (m, 3))."""
    table = exceptions()
    starts = np.cumsum([0, *map(len, table)])
    points = np.frombuffer("".join(table).encode("utf-32-le"), np.uint32).copy()
    pieces = np.zeros((len(table), 3), np.uint8)
    for row, tokens in enumerate(table.values()):
        pieces[row, : len(tokens)] = list(map(len, tokens))
    return points, starts.astype(np.int64), pieces
