"""What chat models say before and after an answer, by language: data for cleaning and for its gate.

An opening is an agreement (`Sure!`), an announcement (`Here is the rewritten text:`), or both. An announcement must
name the task or its result and end in a colon, so that a text that says "Here are the ingredients:" keeps its
words. To add a language, add one row to each table.
"""

import re

_AGREEMENTS = {
    "en": r"sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|all right|no problem|got it|gladly|great",
    "de": r"sicher|gerne?|nat\u00fcrlich|selbstverst\u00e4ndlich|klar|in ordnung|okay",
    "fr": r"bien s\u00fbr|certainement|d['\u2019]accord|avec plaisir|volontiers|voil\u00e0",
    "es": r"claro(?: que s\u00ed)?|por supuesto|desde luego|con mucho gusto|de acuerdo",
    "it": r"certo|certamente|naturalmente|con piacere|va bene|ecco(?:ti)?",
    "pt": r"claro|com certeza|com prazer|certamente|est\u00e1 bem",
    "nl": r"natuurlijk|zeker|graag|ok\u00e9|prima",
    "pl": r"oczywi\u015bcie|jasne|pewnie|ch\u0119tnie|dobrze",
    "ru": r"конечно|разумеется|безусловно|хорошо|с удовольствием",
    "zh": r"好的|当然(?:可以)?|当然|没问题|可以",
    "ja": r"はい|もちろん(?:です)?|承知(?:いた)?しました|わかりました",
}
_ANNOUNCEMENTS = {  # what the announcement begins with, and the task or result it names
    "en": (
        r"here(?:['\u2019]s| is| are| you go)|below (?:is|are)|the following (?:is|are)|i(?:['\u2019]ve| have)",
        r"re-?writ|re-?phras|re-?word|paraphras|summar|simplif|revis|condens|convert|version|\btext\b|passage|paragraph"
        r"|question|q&a|\bfaq|tutorial|\btable\b|\bfacts\b|\bgo\b",
    ),
    "de": (
        r"hier (?:ist|sind|kommt|folgt)|im folgenden|nachfolgend",
        r"umgeschrieb|umformulier|paraphras|zusammenfass|vereinfach|\u00fcberarbeit|fassung|version|\btext|abschnitt|fragen",
    ),
    "fr": (
        r"voici|voil\u00e0|ci-dessous",
        r"r\u00e9\u00e9cri|reformul|paraphras|r\u00e9sum|simplifi|version|\btexte|passage|question",
    ),
    "es": (
        r"aqu\u00ed (?:est\u00e1|tienes|tiene|va)n?|a continuaci\u00f3n",
        r"reescri|reformul|parafrase|resum|simplific|versi\u00f3n|\btexto|pasaje|pregunta",
    ),
    "it": (
        r"ecco(?:ti)?|di seguito",
        r"riscri|riformul|parafras|riassun|semplific|version|\btesto|brano|domand",
    ),
    "pt": (
        r"aqui (?:est\u00e1|est\u00e3o|vai)|a seguir|segue",
        r"reescri|reformul|parafrase|resum|simplific|vers\u00e3o|\btexto|trecho|pergunta",
    ),
    "nl": (
        r"hier (?:is|zijn|volgt)|hieronder",
        r"herschre|geherformul|parafras|samenvat|vereenvoudig|versie|\btekst|passage|vragen",
    ),
    "pl": (
        r"oto|poni\u017cej(?: znajduje si\u0119)?",
        r"przepisan|przeredagowan|sparafrazowan|streszcz|uproszczon|wersj|\btekst|fragment|pytani",
    ),
    "ru": (
        r"вот|ниже(?: приведен[оаы]?)?",
        r"переписан|перефраз|пересказ|кратк|упрощ|верси|\bтекст|отрыв|вопрос",
    ),
    "zh": (r"以下是|下面是|这里是", r"改写|重写|转述|总结|简化|版本|文本|段落|问题"),
    "ja": (r"以下(?:は|に|が)|こちらが", r"書き(?:直|換)|言い換え|要約|簡略|バージョン|文章|テキスト|質問"),
}
_CLOSINGS = {
    "en": r"let me know if|i hope (?:this|that) (?:helps|is what)|feel free to (?:ask|let me)|is there anything else"
    r"|(?:please )?note(?: that|:) (?:i (?:have|tried|kept|used)|this (?:is a )?(?:version|re-?w|re-?ph))",
    "de": r"ich hoffe,? (?:das|dies) hilft|lassen sie (?:es )?mich wissen|sag mir bescheid",
    "fr": r"j['\u2019]esp\u00e8re que (?:cela|\u00e7a)|faites-moi savoir",
    "es": r"espero que (?:esto )?(?:te|le|les)? ?(?:ayude|sirva)|h\u00e1zmelo saber|av\u00edsame si",
    "it": r"spero che (?:questo )?(?:ti |vi )?(?:aiuti|sia)|fammi sapere",
    "pt": r"espero que (?:isso )?(?:ajude|seja)|avise-me se|me avise se",
    "nl": r"ik hoop dat dit helpt|laat (?:het )?me weten",
    "pl": r"mam nadziej\u0119, \u017ce|daj (?:mi )?zna\u0107",
    "ru": r"надеюсь,? (?:это|что)|дайте (?:мне )?знать",
    "zh": r"希望(?:这|以上)|如有其他问题",
    "ja": r"お役に立てれば|他に何かご",
}

_PROMISE = (
    r"i(?:['\u2019]ll| can| will|['\u2019]d be| would be)|let me|happy to|glad to|here (?:you|it|we)"
    r"|ich (?:kann|werde|helfe)|je (?:peux|vais)|puedo|te ayudo|posso|ik (?:kan|zal)|mog\u0119"
    r"|я (?:могу|помогу)|我(?:可以|会|来)"
)
_END_MARK = r"[:\uff1a]"


def _opening() -> str:
    agreement = "|".join(_AGREEMENTS.values())
    announcement = "|".join(
        rf"(?:{begin})(?=[^\n:\uff1a]{{0,160}}?(?:{names}))[^\n:\uff1a]{{0,160}}{_END_MARK}"
        for begin, names in _ANNOUNCEMENTS.values()
    )
    headline = (
        r"(?:(?:the |a |my )?(?:re-?written|re-?phrased|paraphrased|revised|simplified)(?: (?:text|version|passage))?"
        r"|this is (?:a|the|my) (?:re-?writ|re-?phras|paraphras|simplif|revis)[^\n:.]{0,80})\s*:"
    )
    marks = r"[*_#\s]*+"
    agreed = (
        rf"(?:{agreement})(?:\s*[!\uff01.\u3002]+\s+|\s*[!\uff01\u3002]+|[^\S\n]*[,\uff0c]?[^\S\n]*\n"
        rf"|\s*[,\uff0c\u3001]?\s*(?=(?:{announcement}))|[,\uff0c]?\s*(?:{_PROMISE})[^\n.!?:\uff1a]{{0,160}}[\n.!:\uff1a])"
    )
    end = r"[*_]{0,3}\s*+"
    return rf"{marks}(?:(?:{agreed})\s*+(?:(?:{announcement}){end})?|(?:{announcement}|{headline}){end})"


OPENING = re.compile(_opening(), re.IGNORECASE)
"""One chatty opening, at the place where it is matched."""

CLOSING = re.compile(rf"[\s*_(]*+(?:{'|'.join(_CLOSINGS.values())})", re.IGNORECASE)
"""How a chatty last line begins, at the place where it is matched."""
