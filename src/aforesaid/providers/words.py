"""Words, sentences and kinds of questions, as the extractive answerer reads them. Pure text; framed for English.

Other languages work by their words as they stand, and by pairs of characters where words have no spaces.
"""

import re
from typing import Literal

import Stemmer

Kind = Literal["question", "task", "summary", "statement"]

MAX_TEXT = 20_000
"""Characters of one message that are looked at."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=\S)|(?<=[。！？])|\n+")
_ABBREVIATION = re.compile(r"(?:^|\W)(?:mr|mrs|ms|dr|prof|st|vs|e\.g|i\.e|etc|no|[a-z])\.$", re.IGNORECASE)
_NUMBERING = re.compile(r"\d{1,2}[.)]")
_BULLET = re.compile(r"^(?:[-*•>#]+|\d{1,2}[.)])\s+")
_ASKS = re.compile(r"[?？؟;]\s*[\"'”’)]*\s*$|[吗呢か][。?？]?\s*$")
_ASKING_START = re.compile(
    r"(?:so|and|but|ok|okay|hey|hi|hello|please|now|well|also)?[,\s]*"
    r"(?:what|who|whom|whose|when|where|why|how|which|do|does|did|is|are|was|were|am|can|could|would|should|will|"
    r"have|has|had|remind me|tell me|list|name|find|recall|show me|give me|look up|any idea)\b",
    re.IGNORECASE,
)
_STATES_FIRST = re.compile(
    r"(?:is|are|was|were|do|does|did|can|will|have|has|had) (?:n't|not)\b|(?:when|while) i\b", re.IGNORECASE
)
_TASK = re.compile(
    r"(?:please\s+|can you\s+|could you\s+)?(?:write|translate|explain|generate|create|compose|draft|calculate|"
    r"compute|solve|rewrite|convert|code|implement|plan|suggest|recommend|describe|compare|analy[sz]e|say|repeat)\b",
    re.IGNORECASE,
)
_SUMMARY = re.compile(
    r"\bsummar(?:y|i[sz]e|ies)\b|\brecap\b|\btl;?dr\b|\bwhat (?:do|did|have) (?:you|we)\b.{0,20}"
    r"\b(?:know|remember|learn(?:ed|t)?) (?:about|of) me\b|\bwhat (?:did|have) we (?:talk|discuss|been talking)|"
    r"\b(?:tell me|list) (?:everything|all|what) you (?:know|remember)|\bwho am i\b|"
    r"\bwhat have i told you\b|\beverything you (?:know|remember)",
    re.IGNORECASE,
)
ABOUT_ME = re.compile(r"\b(?:about|of) me\b|\bwho am i\b|\bi told you\b|\bhave i told\b", re.IGNORECASE)
OLDEST = re.compile(
    r"\b(?:first|originally|used to|previously|before|formerly|initially|earliest|back then)\b",
    re.IGNORECASE,
)
SEVERAL = re.compile(r"\b(?:all|every|list|which ones|what are|everything|any|both|names of)\b", re.IGNORECASE)

_STOP_WORDS = """
mean much many kind kinds type types sort sorts long
a about above after again all also am an and any are aren aren't as at be because been before being below
between both but by can can't could couldn couldn't did didn didn't do does doesn doesn't doing don don't down
during each ever few find for from further get give go going got had hadn has hasn have haven having he he's
hello her here hers herself hey hi him himself his how i i'd i'll i'm i've if in into is isn isn't it it's its
itself just know let let's like list ll m me mention mentioned might more most must my myself name's no nor not
now of off ok okay on once only or other our ours ourselves out over own please re recall remember remind s said
same say says shall she she's should shouldn shouldn't show so some such t talk talked tell than thank thanks
that that's the their theirs them themselves then there there's these they they're thing things this those
through to told too under until up us ve very was wasn wasn't we we're were weren what what's when when's where
where's which while who who's whom whose why will with won won't would wouldn wouldn't yes you you're you've
your yours yourself yourselves
"""
_STOP = frozenset(_STOP_WORDS.split())
_IRREGULAR_WORDS = """
went:go gone:go bought:buy ate:eat eaten:eat met:meet moved:move wrote:write written:write got:get made:make
took:take taken:take saw:see seen:see began:begin begun:begin ran:run drove:drive flew:fly taught:teach
read:read grew:grow won:win lost:lose left:leave felt:feel children:child kids:kid people:person men:man
women:woman gave:give found:find sold:sell built:build told:tell kept:keep paid:pay favourite:favorit
favorite:favorit favourites:favorit colour:color colours:color
"""
_IRREGULAR = dict(pair.split(":") for pair in _IRREGULAR_WORDS.split())
_RELATED_GROUPS = (
    "live move home city town reside born flat apartment house relocate",
    "job work career profession occupation employ engineer teacher nurse doctor company",
    "favorit love prefer enjoy best adore",
    "birthday born birth age",
    "old age year birthday",
    "wife husband spouse partner marri girlfriend boyfriend fiance",
    "child kid son daughter baby",
    "pet dog cat puppy kitten hamster rabbit parrot",
    "parent mother father mum mom dad",
    "sibling brother sister",
    "allerg allergi intolerant avoid eat",
    "cost price pay buy spend spent worth",
    "eat food meal diet vegetarian vegan dish",
    "car drive vehicle bike bicycle",
    "holiday vacation trip travel visit",
    "school university college study degre",
    "buy purchase bought",
    "email mail address",
    "phone number mobile telephone",
    "ill sick doctor hospital health",
    "hobby hobbi enjoy play",
    "call name",
)


class Reader:
    """Reads texts as terms: stems, and pairs of characters where a script has no spaces. Not for use in two threads."""

    def __init__(self) -> None:
        self._stem = Stemmer.Stemmer("english").stemWord
        self._related: dict[str, frozenset[str]] = {}
        for group in _RELATED_GROUPS:
            stems = frozenset(self._one(word) for word in group.split())
            for stem in stems:
                self._related[stem] = self._related.get(stem, frozenset()) | (stems - {stem})

    def _one(self, word: str) -> str:
        stem: str = self._stem(_IRREGULAR.get(word, word))
        return stem

    def terms(self, text: str) -> dict[str, str]:
        """The terms of a text that carry meaning, each with the word it stands for, in order."""
        found: dict[str, str] = {}
        for match in _WORD.finditer(text[:MAX_TEXT]):
            word = match[0].replace("’", "'")
            low = word.casefold()
            if low in _STOP or (len(low) == 1 and low.isascii() and not low.isdigit()):
                continue
            if _UNSPACED.fullmatch(low):
                for at in range(max(1, len(low) - 1)):
                    found.setdefault(low[at : at + 2], low[at : at + 2])
                continue
            found.setdefault(self._one(low.removesuffix("'s")), word.removesuffix("'s"))
        return found

    def related(self, term: str) -> frozenset[str]:
        """Terms that often answer a question for ``term``."""
        return self._related.get(term, frozenset())


def sentences(text: str) -> list[str]:
    """The sentences of a text, list items by themselves, in order."""
    found: list[str] = []
    for piece in _SENTENCE_END.split(text[:MAX_TEXT]):
        piece = _BULLET.sub("", piece.strip())
        if not piece or _NUMBERING.fullmatch(piece):
            continue
        if found and _ABBREVIATION.search(found[-1]) and "\n" not in piece:
            found[-1] = f"{found[-1]} {piece}"
        else:
            found.append(piece)
    return found


def is_question(text: str) -> bool:
    """Whether a text asks something."""
    text = text.strip()
    return bool(_ASKS.search(text)) or (bool(_ASKING_START.match(text)) and not _STATES_FIRST.match(text))


def kind_of(text: str) -> Kind:
    """What a user's message wants: something told, something done, a summary, or only to be heard."""
    text = text.strip()
    if _SUMMARY.search(text) and len(text) < 300:
        return "summary"
    if _TASK.match(text):
        return "task"
    parts = sentences(text)
    asks = bool(parts) and (is_question(parts[-1]) or any(_ASKS.search(part) for part in parts))
    return "question" if asks else "statement"
